"""Pyramids for tests, and their comparison."""

from __future__ import annotations

import pytest
import torch

from fpn_plugins import FPN
from fpn_plugins.features import FeatureSpec
from fpn_plugins.testing import TINY_SPECS, assert_same_pyramid, make_pyramid


def test_maps_have_the_shapes_of_a_backbone():
    maps = make_pyramid(image_size=(65, 96), batch_size=2)
    assert [tuple(x.shape) for x in maps] == [(2, 4, 17, 24), (2, 6, 9, 12), (2, 8, 5, 6), (2, 10, 3, 3)]
    (double,) = make_pyramid([FeatureSpec(3, 16)], (32, 32), dtype=torch.float64)
    assert double.dtype == torch.float64 and double.shape == (1, 3, 2, 2)


def test_a_seed_gives_the_same_maps_after_any_other_draws():
    first = make_pyramid(seed=3)
    torch.rand(7)
    assert_same_pyramid(make_pyramid(seed=3), first, tolerance=0)
    with pytest.raises(AssertionError, match="level 0 differs"):
        assert_same_pyramid(make_pyramid(seed=4), first)


def test_without_a_seed_the_global_generator_draws():
    torch.manual_seed(5)
    first = make_pyramid(seed=None)
    with pytest.raises(AssertionError, match="level 0 differs"):
        assert_same_pyramid(make_pyramid(seed=None), first)
    torch.manual_seed(5)
    assert_same_pyramid(make_pyramid(seed=None), first, tolerance=0)


def test_a_neck_takes_them():
    torch.manual_seed(0)
    neck = FPN([spec.channels for spec in TINY_SPECS], 8)
    outputs = neck(make_pyramid())
    assert_same_pyramid(outputs, [x.clone() for x in outputs], tolerance=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps[:3], "3 maps instead of 4"),
        (lambda maps: [*maps[:3], maps[3][..., 1:]], r"level 3: shape \(1, 10, 2, 2\) instead of \(1, 10, 2, 3\)"),
        (lambda maps: [*maps[:2], maps[2] * 1.0001, maps[3]], "level 2 differs, in units of"),
        (lambda maps: [maps[0] * float("nan"), *maps[1:]], "(?s)level 0 differs.*nan"),
    ],
)
def test_differences_are_named(change, message: str):
    maps = make_pyramid()
    with pytest.raises(AssertionError, match=message):
        assert_same_pyramid(change(list(maps)), maps)


def test_differences_within_the_tolerance_pass():
    maps = make_pyramid()
    assert_same_pyramid([x * (1 + 1e-6) for x in maps], maps)


@pytest.mark.parametrize("arguments", [{"specs": ()}, {"image_size": (0, 4)}, {"batch_size": 0}])
def test_empty_pyramids_are_refused(arguments: dict):
    with pytest.raises(ValueError, match="at least one map, pixel and image"):
        make_pyramid(**arguments)
