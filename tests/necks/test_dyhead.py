"""DyHead matches mmdet's class on mmcv's operator; parts, keys and errors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parity import assert_checkpointing_changes_nothing, assert_exact_both_ways, outputs_and_gradients
from precision import assert_same_gradients, assert_same_maps
from seeds import seed
from state_keys import assert_pinned
from torch import Tensor, nn

from fpn_plugins import DyHead, FeatureSpec
from fpn_plugins.necks.dyhead_block import DyHeadBlock, DynamicReLU, as_smaller, hard_sigmoid
from fpn_plugins.weights.maps import dyhead as tables

SIZES = [(11, 14), (6, 7), (3, 4)]


# ------------------------------------------------------------------------------------------------------------ mmdet


def pair(**arguments: Any) -> tuple[nn.Module, nn.Module]:
    """Build mmdet's neck and ours from one config and one seed."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    built = []
    for kind in ("DyHead", "fpn_plugins.DyHead"):
        seed(3)
        built.append(MODELS.build({"type": kind, "in_channels": 8, "out_channels": 16, "num_blocks": 2, **arguments}))
    return built[0], built[1]


@pytest.mark.mmdet
@pytest.mark.parametrize("sizes", [SIZES, [(16, 8), (8, 4)], [(7, 5)], [(5, 1), (3, 1), (2, 1), (1, 1)]])
def test_matches_mmdet(sizes: list[tuple[int, int]], make_maps: Callable[..., list[Tensor]]):
    """With offsets of several cells, at odd sizes, and also at the borders."""
    theirs, ours = (neck.double() for neck in pair())
    for key, p in theirs.named_parameters():
        nn.init.normal_(p, std=0.3 if "offset" in key else 0.1)
    ours.load_state_dict(theirs.state_dict())
    maps = make_maps([8] * len(sizes), sizes, dtype=torch.double)
    unused = len(sizes) == 1
    wanted, wanted_grads = outputs_and_gradients(theirs, maps, allow_unused=unused)
    got, grads = outputs_and_gradients(ours, maps, allow_unused=unused)
    assert_same_maps(got, wanted)
    assert_same_gradients(grads, wanted_grads)


@pytest.mark.mmdet
@pytest.mark.parametrize("zero", [True, False])
def test_one_seed_gives_the_same_weights(zero: bool):
    theirs, ours = pair(zero_init_offset=zero)
    assert_exact_both_ways(tables.mmdet(), theirs, ours)
    for neck in (theirs, ours):
        neck.init_weights()
    for (name, p), (own, q) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(p, q), (name, own)


@pytest.mark.mmdet
def test_every_argument_and_default_matches_mmdet():
    from mmdet.registry import MODELS

    pair()
    theirs, ours = (
        inspect.signature(MODELS.get(name).__init__).parameters for name in ("DyHead", "fpn_plugins.DyHead")
    )
    assert [name for name in ours if name not in ("num_levels", "more")] == list(theirs)
    assert all(ours[name].default == parameter.default for name, parameter in theirs.items())
    with pytest.raises(ValueError, match="DyHead initializes itself"):
        MODELS.build(
            {"type": "fpn_plugins.DyHead", "in_channels": 8, "out_channels": 16, "init_cfg": {"type": "Normal"}}
        )


@pytest.mark.mmdet
def test_the_number_of_levels_is_free_in_mmdet_unless_it_is_given(make_maps: Callable[..., list[Tensor]]):
    _, free = pair()
    fixed = type(free)(8, 16, 2, num_levels=2)
    maps = make_maps([8] * 3, SIZES)
    assert len(free(maps)) == 3 and len(fixed(maps[:2])) == 2
    with pytest.raises(ValueError, match=re.escape("in_channels=[8, 8] but received 3 maps")):
        fixed(maps)


# ------------------------------------------------------------------------------------------------- what it computes


def test_offsets_of_a_larger_map_are_read_from_the_start_of_its_memory():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    assert as_smaller(x, (2, 2)).flatten().tolist() == list(range(8))
    assert torch.equal(as_smaller(x, (3, 4)), x)


def test_the_task_attention_starts_as_relu_of_half_slopes(make_maps: Callable[..., list[Tensor]]):
    """With zero weights: slopes 1 and 0, no shifts."""
    relu = DynamicReLU(8)
    for p in relu.parameters():
        nn.init.zeros_(p)
    x = torch.randn(2, 8, 3, 4)
    assert torch.equal(relu(x), x.relu())


def test_a_block_with_zero_offsets_is_made_of_convolutions(make_maps: Callable[..., list[Tensor]]):
    """Each deformable convolution then is a usual one, at half of its weights."""
    block = DyHeadBlock(4, 16, norm=None).double()
    maps = make_maps([4, 4], [(6, 8), (3, 4)], dtype=torch.double)

    def conv(layer: nn.Module, x: Tensor) -> Tensor:
        y = F.conv2d(x, layer.weight / 2, layer.bias, layer.stride, 1)
        return y * hard_sigmoid(block.scale_attention(F.adaptive_avg_pool2d(y, 1)).relu())

    up = F.conv2d(maps[1], block.coarser_conv.weight / 2, padding=1)
    up = F.interpolate(up, size=(6, 8), mode="bilinear", align_corners=True)
    up = up * hard_sigmoid(block.scale_attention(F.adaptive_avg_pool2d(up, 1)).relu())
    fine = block.task_attention((conv(block.same_conv, maps[0]) + up) / 2)
    coarse = block.task_attention((conv(block.same_conv, maps[1]) + conv(block.finer_conv, maps[0])) / 2)
    assert_same_maps(block(maps), [fine, coarse])


def test_gradient_checkpointing_changes_nothing(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps([16] * 3, SIZES, dtype=torch.double)
    plain, frugal = (DyHead([16] * 3, num_blocks=2, gradient_checkpointing=saved).double() for saved in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, maps)


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": [8, 16]}, "in_channels=[8, 16] must be equal for all maps"),
        ({"in_channels": [16]}, "in_channels=[16]: DyHead joins each level with its neighbors"),
        ({"out_channels": 24}, "out_channels=24 must be a multiple of 16"),
        ({"num_blocks": 0}, "num_blocks=0 must be at least 1"),
        ({"norm": "FrozenBN"}, "norm='FrozenBN' is unknown"),
        ({"norm": "GN", "out_channels": 16}, "needs channels divisible by 32"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        DyHead(**{"in_channels": [16, 16], **arguments})


def test_maps_that_do_not_halve_are_named(make_maps: Callable[..., list[Tensor]]):
    neck = DyHead([16, 16], num_blocks=1)
    with pytest.raises(ValueError, match=r"DyHead halves a map of \(8, 8\) cells"):
        neck(make_maps([16, 16], [(8, 8), (5, 4)]))
    with pytest.raises(ValueError, match="publishes channels"):
        neck.out_specs([FeatureSpec(8, 4), FeatureSpec(16, 8)])


def test_state_dict_keys_are_pinned():
    keys = set()
    for block in ("blocks.0", "blocks.1"):
        convs = [f"{block}.{name}_conv" for name in ("coarser", "same", "finer")]
        keys |= {f"{conv}.{part}" for conv in convs for part in ("weight", "norm.weight", "norm.bias")}
        plain = ("offset_conv", "scale_attention", "task_attention.conv1", "task_attention.conv2")
        keys |= {f"{block}.{name}.{part}" for name in plain for part in ("weight", "bias")}
    assert_pinned("DyHead", keys)
