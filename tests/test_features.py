"""Published shapes of maps, and the checks that compare real maps with them."""

from __future__ import annotations

import pytest
import torch

from fpn_plugins import FeatureSpec, check_pyramid, level_names
from fpn_plugins.features import check_channels, check_specs, check_strides

SPECS = (FeatureSpec(8, 4), FeatureSpec(16, 8))


@pytest.mark.parametrize(("stride", "level"), [(1, 0), (2, 1), (4, 2), (32, 5), (128, 7)])
def test_level_is_log2_of_the_stride(stride: int, level: int):
    assert FeatureSpec(1, stride).level == level


@pytest.mark.parametrize("stride", [0, -4, 3, 12])
def test_a_stride_that_is_no_power_of_two_has_no_level(stride: int):
    with pytest.raises(ValueError, match=f"stride {stride} is not a power of two"):
        _ = FeatureSpec(1, stride).level


def test_level_names_follow_the_strides_not_the_positions():
    assert level_names(SPECS) == ("p2", "p3")
    assert level_names([FeatureSpec(8, 8), FeatureSpec(8, 32)], prefix="c") == ("c3", "c5")


def test_check_channels_accepts_what_was_asked_for():
    check_channels([torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 2, 2)], [8, 16], "FPN")


@pytest.mark.parametrize(
    "shapes",
    [[(1, 8, 4, 4)], [(1, 8, 4, 4), (1, 8, 2, 2)], [(1, 16, 2, 2), (1, 8, 4, 4)], [(8, 4, 4), (16, 2, 2)]],
    ids=["too few", "wrong channels", "wrong order", "no batch"],
)
def test_check_channels_names_owner_wanted_and_received(shapes: list[tuple[int, ...]]):
    with pytest.raises(ValueError) as error:
        check_channels([torch.zeros(shape) for shape in shapes], [8, 16], "FPN")
    for part in ("FPN", "in_channels=[8, 16]", f"received {len(shapes)} maps", str(shapes[0]), "out_indices"):
        assert part in str(error.value)


def test_check_specs_names_both_lists():
    check_specs(SPECS, [8, 16], "FPN")
    with pytest.raises(ValueError, match=r"in_channels=\[8, 32\].*publishes channels \[8, 16\] at strides \[4, 8\]"):
        check_specs(SPECS, [8, 32], "FPN")
    with pytest.raises(ValueError, match="publishes channels"):
        check_specs(SPECS[:1], [8, 16], "FPN")


@pytest.mark.parametrize("image_size", [(64, 48), (61, 47), (67, 50)])
@pytest.mark.parametrize("rounding", [lambda side, stride: side // stride, lambda side, stride: -(-side // stride)])
def test_check_pyramid_accepts_both_roundings(image_size: tuple[int, int], rounding):
    maps = [torch.zeros(1, s.channels, *(rounding(side, s.stride) for side in image_size)) for s in SPECS]
    check_pyramid(maps, SPECS, image_size)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 8, 16, 12)], "1 maps for 2 published specs"),
        ([(1, 8, 16, 12), (1, 8, 8, 6)], "map 1 has shape"),
        ([(1, 8, 14, 12), (1, 16, 8, 6)], "map 0 has shape"),
        ([(1, 8, 16, 12), (1, 16, 8, 8)], "map 1 has shape"),
        ([(1, 8, 12, 16), (1, 16, 6, 8)], "map 0 has shape"),
    ],
    ids=["too few", "channels", "too low", "too wide", "transposed"],
)
def test_check_pyramid_refuses_other_shapes(shapes: list[tuple[int, ...]], message: str):
    with pytest.raises(ValueError, match=message):
        check_pyramid([torch.zeros(shape) for shape in shapes], SPECS, (64, 48))


def test_strides_have_to_double():
    check_strides([4, 8, 16], "FPN")
    with pytest.raises(ValueError, match=r"FPN doubles.*strides \[4, 16\].*out_indices"):
        check_strides([4, 16], "FPN")
