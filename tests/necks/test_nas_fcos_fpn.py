"""NASFCOSFPN: its graph, sizes, keys and errors; see also the tests of the mmdet adapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from parity import assert_checkpointing_changes_nothing
from state_keys import assert_pinned, conv_keys, normed_keys
from torch import Tensor

from fpn_plugins import NASFCOSFPN, FeatureSpec
from fpn_plugins.ops.deformable import ModulatedDeformConv2d

CHANNELS = [4, 6, 8]


@pytest.mark.parametrize("conv", [None, partial(ModulatedDeformConv2d, offset_groups=2)])
@pytest.mark.parametrize("sizes", [[(13, 10), (7, 5), (4, 3)], [(13, 10), (6, 5), (3, 2)], [(1, 1)] * 3])
def test_outputs_have_the_sizes_of_the_inputs(
    conv: Any, sizes: list[tuple[int, int]], make_maps: Callable[..., list[Tensor]]
):
    neck = NASFCOSFPN(CHANNELS, 8, conv=conv).eval()
    outputs = neck(make_maps(CHANNELS, sizes))
    after = [tuple((side + 1) // 2 for side in sizes[-1])]
    after.append(tuple((side + 1) // 2 for side in after[0]))
    assert [tuple(m.shape[-2:]) for m in outputs] == [*sizes, *after]
    specs = neck.out_specs([FeatureSpec(c, 8 << k) for k, c in enumerate(CHANNELS)])
    assert specs == tuple(FeatureSpec(8, 8 << k) for k in range(5))


def test_other_strides_of_the_used_maps(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps([3, *CHANNELS], [(26, 20), (13, 10), (7, 5), (4, 3)])
    neck = NASFCOSFPN([3, *CHANNELS], 8, 0, in_indices=(0, 1, 2)).eval()
    assert [tuple(m.shape[-2:]) for m in neck(maps)] == [(26, 20), (13, 10), (7, 5)]


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps(CHANNELS, [(12, 8), (6, 4), (3, 2)], dtype=torch.double)
    plain, frugal = (NASFCOSFPN(CHANNELS, 8, gradient_checkpointing=checked).double() for checked in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_indices": (0, 1)}, "in_indices=[0, 1]: the searched graph joins exactly 3 maps"),
        ({"num_extra_levels": -1}, "num_extra_levels=-1 must be at least 0"),
        ({"norm": "bn"}, "norm='bn' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        NASFCOSFPN(**{"in_channels": CHANNELS, "out_channels": 8, **arguments})


def test_state_dict_keys_are_pinned():
    convs = [2, 2, 1, 1, 2, 2, 2]
    inputs = [f"cell.nodes.{n}.input_convs.{j}" for n, count in enumerate(convs) for j in range(count)]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = normed_keys(*inputs, *(f"lateral_convs.{i}" for i in range(3)))
    keys |= {f"{name}.conv.bias" for name in inputs}
    keys |= conv_keys("extra_levels.convs.0", "extra_levels.convs.1")
    for n in range(7):
        keys |= {f"cell.nodes.{n}.output_conv.weight", *(f"cell.nodes.{n}.output_norm.{part}" for part in norm)}
    assert_pinned("NASFCOSFPN", keys)
