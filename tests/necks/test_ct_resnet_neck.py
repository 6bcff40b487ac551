"""CTResNetNeck: its output, initialization, keys and errors; see also the tests of the mmdet adapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parity import assert_checkpointing_changes_nothing
from precision import assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor, nn

from fpn_plugins import CTResNetNeck, FeatureSpec
from fpn_plugins.necks.ct_resnet_neck import init_bilinear


@pytest.mark.parametrize("conv", [nn.Conv2d, None, "deformable"])
def test_doubles_the_last_map_three_times(conv: Any, make_maps: Callable[..., list[Tensor]]):
    arguments = {} if conv == "deformable" else {"conv": conv}
    neck = CTResNetNeck([6, 8], (16, 8, 4), **arguments)
    (output,) = neck(make_maps([6, 8], [(9, 7), (5, 4)]))
    assert output.shape == (2, 4, 40, 32)
    assert neck.out_specs([FeatureSpec(6, 16), FeatureSpec(8, 32)]) == (FeatureSpec(4, 4),)
    assert neck.read_indices == (1,)


def test_the_first_output_channel_starts_as_bilinear_upsampling():
    conv = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)
    init_bilinear(conv)
    x = torch.randn(1, 3, 5, 6)
    wanted = F.interpolate(x.sum(1, keepdim=True), scale_factor=2, mode="bilinear")
    inner = (..., slice(2, -2), slice(2, -2))  # at the border the convolution reads zeros
    assert_same_maps([(conv(x)[:, :1] - conv.bias[0])[inner]], [wanted[inner]])


def test_offsets_start_at_zero():
    neck = CTResNetNeck([8], 4)
    assert not any(bool(p.any()) for key, p in neck.named_parameters() if "conv_offset" in key)


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps([8], [(5, 4)], dtype=torch.double)
    plain, frugal = (CTResNetNeck([8], 4, gradient_checkpointing=checked).double() for checked in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_indices": (0, 1)}, "CTResNetNeck uses one map, got in_indices=[0, 1]"),
        ({"out_channels": (8, 0)}, "out_channels=[8, 0] must be integers of at least 1"),
        ({"out_channels": ()}, "out_channels=0 must be at least 1"),
        ({"kernel_sizes": (4,)}, "kernel_sizes=[4] must have one entry per entry of out_channels"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        CTResNetNeck(**{"in_channels": [6, 8], "out_channels": (8, 4), **arguments})


def test_a_stride_that_cannot_be_halved_as_often_is_an_error():
    with pytest.raises(ValueError, match="divides a stride by 8, but its map has stride 4"):
        CTResNetNeck([8]).out_specs([FeatureSpec(8, 4)])


def test_state_dict_keys_are_pinned():
    offsets = {f"deconv_layers.{i}.conv.conv_offset.{part}" for i in (0, 2) for part in ("weight", "bias")}
    assert_pinned("CTResNetNeck", offsets | normed_keys(*(f"deconv_layers.{i}" for i in range(4))))
