"""SSDNeck: its levels, its norm, keys and errors; `tests/adapters/mmdet/test_necks_drop_in.py` compares with mmdet."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from parity import assert_checkpointing_changes_nothing
from precision import assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor

from fpn_plugins import FeatureSpec, SSDNeck
from fpn_plugins.necks.ssd_neck import L2Norm


@pytest.mark.parametrize("sizes", [[(38, 38), (19, 19)], [(7, 5), (4, 3)]])
def test_the_backbones_maps_are_outputs(sizes: list[tuple[int, int]], make_maps: Callable[..., list[Tensor]]):
    neck = SSDNeck([6, 8], (16, 12), l2_norm_scale=None).eval()
    maps = make_maps([6, 8], sizes)
    outputs = neck(maps)
    assert outputs[0] is maps[0] and outputs[1] is maps[1]
    assert [m.shape[1] for m in outputs] == [6, 8, 16, 12]
    specs = neck.out_specs([FeatureSpec(6, 8), FeatureSpec(8, 16)])
    assert specs == tuple(FeatureSpec(c, 8 << k) for k, c in enumerate((6, 8, 16, 12)))


def test_ssd300_shrinks_the_last_levels_without_stride(make_maps: Callable[..., list[Tensor]]):
    neck = SSDNeck([6, 8], (8, 8, 8, 8), (2, 2, 1, 1), (1, 1, 0, 0))
    maps = make_maps([6, 8], [(38, 38), (19, 19)])
    assert [m.shape[-1] for m in neck(maps)] == [38, 19, 10, 5, 3, 1]


def test_a_neck_without_extra_levels_only_scales_the_first_map(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps([6, 8], [(4, 3), (2, 2)])
    first, second = SSDNeck([6, 8], ())(maps)
    assert second is maps[1] and first.shape == maps[0].shape and not torch.equal(first, maps[0])


def test_maps_that_are_too_small_are_named(make_maps: Callable[..., list[Tensor]]):
    neck = SSDNeck([6, 8], (8, 8, 8), (2, 1, 1), (1, 0, 0), last_kernel_size=4)
    assert [m.shape[-1] for m in neck(make_maps([6, 8], [(22, 22), (11, 11)]))] == [22, 11, 6, 4, 1]
    with pytest.raises(ValueError, match=r"SSDNeck's level 4 needs a map of at least 4 x 4 cells .* has \(4, 3\); use"):
        neck(make_maps([6, 8], [(22, 20), (11, 10)]))


def test_the_norm_gives_each_cell_the_length_of_its_scale():
    x = torch.randn(2, 6, 3, 4, dtype=torch.double) * 7
    assert_same_maps([L2Norm(6, 20.0).double()(x).square().sum(1).sqrt()], [torch.full((2, 3, 4), 20.0).double()])
    assert L2Norm(6, 20.0)(x.half()).dtype == torch.half


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps([6, 8], [(24, 16), (12, 8)], dtype=torch.double)
    plain, frugal = (
        SSDNeck([6, 8], (16, 8), norm="BN", gradient_checkpointing=checkpointed).double()
        for checkpointed in (False, True)
    )
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extra_channels": (8, 1)}, "extra_channels=[8, 1] must be integers of at least 2"),
        ({"extra_strides": (2,)}, "extra_strides=[2] must have 2 entries"),
        ({"extra_paddings": (1, -1)}, "extra_paddings=[1, -1] must be integers of at least 0"),
        ({"l2_norm_scale": -1}, "l2_norm_scale=-1 must be at least 0"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        SSDNeck(**{"in_channels": [6, 8], "extra_channels": (16, 8), **arguments})


def test_state_dict_keys_are_pinned():
    names = [f"extra_convs.{k}.{part}" for k in (0, 1) for part in (0, 1)]
    assert_pinned("SSDNeck", {"l2_norm.weight"} | normed_keys(*names))
