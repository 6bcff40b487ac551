"""FPG: grid, sizes, transitions, keys and errors; parity with mmdet's is tested with its configs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from parity import assert_checkpointing_changes_nothing
from precision import assert_same_maps
from state_keys import assert_pinned, conv_keys, normed_keys
from torch import Tensor, nn

from fpn_plugins import FPG, FeatureSpec
from fpn_plugins.necks.fpg_grid import GridNode, OrderedConv, check_skipped, graph_of, grid

CHANNELS = [2, 3, 4]
SIZES = [(19, 14), (10, 7), (5, 4)]


def test_the_grid_matches_the_paper():
    """Figure 2 for three levels: the triangle, and what each node reads."""
    names = ("same_up", "across_lateral", "across_down", "across_skip")
    places = grid(("bottom_up",) * 2, names, check_skipped("triangle", 3, 2))
    assert [(place.path, place.level) for place in places] == [(0, 2), (1, 1), (1, 2)]
    assert places[0].reads == {"same_up": 1, "across_lateral": 2, "across_skip": 2}
    assert places[1].reads == {"same_up": 0, "across_lateral": 1, "across_down": 3, "across_skip": 1}
    assert places[2].reads == {"same_up": 4, "across_lateral": 3, "across_skip": 2}
    assert graph_of(places, 3).outputs == (0, 4, 5)


def test_a_top_down_path_starts_at_the_coarsest_level():
    places = grid(("top_down",), ("same_down", "across_lateral", "across_up"), ((), (), ()))
    assert [place.level for place in places] == [2, 1, 0]
    assert [place.reads for place in places] == [
        {"across_lateral": 2, "across_up": 1},
        {"same_down": 3, "across_lateral": 1, "across_up": 0},
        {"same_down": 4, "across_lateral": 0},
    ]


def by_hand(neck: FPG, maps: list[Tensor]) -> list[Tensor]:
    """Compute one bottom-up path on two levels without graph and executor."""
    fine, coarse = (conv(x) for conv, x in zip(neck.lateral_convs, maps, strict=True))
    first, second = (neck.paths[0][level].transitions for level in "01")

    def through(layer: OrderedConv, x: Tensor) -> Tensor:
        return layer.norm(layer.conv(x.relu()))

    up = nn.functional.interpolate(coarse, size=fine.shape[-2:])
    own = [
        through(first["across_lateral"], fine),
        through(first["across_down"], up),
        through(first["across_skip"], fine),
    ]
    low = sum(own)
    high = through(second["same_up"], low) + through(second["across_lateral"], coarse)
    high = high + through(second["across_skip"], coarse)
    return [conv.conv(x.relu()) for conv, x in zip(neck.output_convs, (low, high), strict=True)]


def test_one_path_equals_the_definition(make_maps: Callable[..., list[Tensor]]):
    arguments: dict[str, Any] = {"num_extra_levels": 0, "paths": ("bottom_up",), "skipped_paths": "none"}
    neck = FPG([2, 3], 4, 5, **arguments).double().eval()
    maps = make_maps([2, 3], SIZES[:2], dtype=torch.double)
    assert_same_maps(neck(maps), by_hand(neck, maps))


@pytest.mark.parametrize("arguments", [{}, {"extra_convs": True}, {"paths": ("top_down", "bottom_up"), "across_up": 3}])
@pytest.mark.parametrize("size", [(64, 32), (37, 51), (5, 3)])
def test_any_size_and_as_many_levels_as_wanted(
    arguments: dict[str, Any], size: tuple[int, int], make_maps: Callable[..., list[Tensor]]
):
    arguments = {"paths": ("bottom_up",) * 2, **arguments}
    neck = FPG(CHANNELS, 4, (4, 5, 6, 6, 6), num_extra_levels=2, skipped_paths="none", **arguments)
    sizes = [size]
    while len(sizes) < 5:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    specs = [FeatureSpec(c, 4 << k) for k, c in enumerate(CHANNELS)]
    assert [spec.stride for spec in neck.out_specs(specs)] == [4, 8, 16, 32, 64]
    assert [tuple(m.shape) for m in neck.eval()(make_maps(CHANNELS, sizes[:3]))] == [(2, 4, *size) for size in sizes]


def test_transitions_by_name_and_by_factory(make_maps: Callable[..., list[Tensor]]):
    class Marked(nn.Conv2d):
        pass

    def factory(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        return nn.Conv2d(in_channels, out_channels, 3, stride, 1)

    neck = FPG(
        CHANNELS,
        4,
        paths=("bottom_up", "top_down"),
        same_up=factory,
        same_down="identity",
        across_lateral="identity",
        across_skip=None,
        across_up=None,
        skipped_paths="none",
        upsample_mode="bilinear",
        norm=None,
        act="silu",
        conv=Marked,
    )
    node = neck.paths[0]["1"]
    assert isinstance(node, GridNode) and list(node.transitions) == ["same_up", "across_lateral", "across_down"]
    assert type(node.transitions["same_up"]) is nn.Conv2d and node.transitions["same_up"].stride == (2, 2)
    assert isinstance(node.transitions["across_lateral"], nn.Identity)
    assert type(node.transitions["across_down"].conv) is Marked and list(node.upsamples) == ["across_down"]
    assert list(neck.paths[1]["1"].transitions) == ["same_down", "across_lateral", "across_down"]
    neck(make_maps(CHANNELS, SIZES))


def test_gradient_checkpointing_changes_nothing(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps(CHANNELS, SIZES, dtype=torch.double)
    plain, frugal = (
        FPG(CHANNELS, 4, paths=("bottom_up",) * 3, gradient_checkpointing=saved).double() for saved in (False, True)
    )
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=[] must list"),
        ({"num_extra_levels": -1}, "num_extra_levels=-1 must be at least 0"),
        ({"inter_channels": (4, 5)}, "inter_channels=[4, 5] must have 4 entries"),
        ({"paths": ()}, "paths=[] must list the direction of each path"),
        ({"paths": ("up",)}, "paths='up' is unknown; choose one of ['bottom_up', 'top_down']"),
        ({"skipped_paths": "all"}, "skipped_paths='all' is unknown"),
        ({"skipped_paths": [[0]] * 3}, "must have one entry for each of the 4 levels"),
        ({"skipped_paths": [[9]] * 4}, "skipped_paths=9 must be at most 8"),
        ({"same_up": 2}, "same_up=2 must be an odd kernel size"),
        ({"same_up": "identity"}, "same_up='identity' does not halve a map"),
        ({"across_skip": "conv"}, "across_skip='conv' is unknown"),
        (
            {"across_skip": "identity", "inter_channels": (4, 5, 6, 7), "across_lateral": "identity"},
            "keep the channels",
        ),
        (
            {"across_down": "identity", "inter_channels": (4, 5, 6, 6)},
            "across_down='identity' needs equal inter_channels",
        ),
        (
            dict.fromkeys(("across_lateral", "across_down", "across_skip", "same_down")),
            "nothing enters level 0 of path",
        ),
        ({"norm": "FrozenBN"}, "norm='FrozenBN' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        FPG(**{"in_channels": CHANNELS, "out_channels": 4, "paths": ("bottom_up",) * 9, **arguments})


def test_the_output_convolution_can_be_left_out_in_words_only():
    with pytest.raises(TypeError, match='output_conv=None: each level has one; pass "identity" for none'):
        FPG(CHANNELS, 4, output_conv=None)  # type: ignore[arg-type]
    neck = FPG(CHANNELS, 4, output_conv="identity")
    assert all(isinstance(layer, nn.Identity) for layer in neck.output_convs)
    with pytest.raises(ValueError, match="output_conv='identity' needs equal inter_channels"):
        FPG(CHANNELS, 4, output_conv="identity", inter_channels=6)


def test_a_transition_of_another_size_is_named(make_maps: Callable[..., list[Tensor]]):
    neck = FPG(CHANNELS, 4, same_up=lambda a, b, stride: nn.Conv2d(a, b, 1))
    with pytest.raises(ValueError, match=r"same_up makes a map of \(5, 4\) cells where the level has \(3, 2\)"):
        neck(make_maps(CHANNELS, SIZES))
    with pytest.raises(ValueError, match=r"FPG halves a map of \(4, 4\) cells"):
        neck(make_maps(CHANNELS, [(8, 8), (4, 4), (3, 3)]))


def test_state_dict_keys_are_pinned():
    levels = range(5)
    names = [
        f"paths.{s}.{i}.transitions.{name}"
        for s in range(4)
        for i in range(4 - s, 5)
        for name in ("same_up", "across_lateral", "across_down", "across_skip")
        if not (name == "across_down" and i == 4)
    ]
    convs = conv_keys(*(f"lateral_convs.{i}" for i in range(4)), *(f"output_convs.{i}" for i in levels))
    assert_pinned("FPG", convs | normed_keys(*names))
