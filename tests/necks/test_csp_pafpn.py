"""CSPPAFPN matches mmdet's YOLOXPAFPN; sizes on which that fails, keys and errors."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways
from precision import assert_same_maps
from state_keys import assert_pinned, normed_keys
from torch import Tensor, nn

from fpn_plugins import CSPPAFPN, FeatureSpec
from fpn_plugins.weights.maps import csp_pafpn as tables

CHANNELS = [4, 5, 6, 8]  # five is not even: the CSP layers halve it


NORMS = {None: None, "BN": {"type": "BN", "momentum": 0.03, "eps": 0.001}}
OURS: dict[str | None, dict[str, Any]] = {None: {"norm": None}, "BN": {}}  # BN of YOLOX is the default


@lru_cache
def pair(levels: int, blocks: int, depthwise: bool, norm: str | None) -> tuple[nn.Module, nn.Module]:
    """Build mmdet's neck with non-trivial weights and norms, and ours with the same weights, in double precision."""
    from mmdet.models.necks import YOLOXPAFPN

    theirs = YOLOXPAFPN(CHANNELS[-levels:], 3, blocks, depthwise, norm_cfg=NORMS[norm]).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = CSPPAFPN(CHANNELS[-levels:], 3, blocks, depthwise, **OURS[norm]).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.mmdet
@settings(max_examples=30)
@given(
    levels=st.integers(1, 4),
    blocks=st.integers(0, 2),
    depthwise=st.booleans(),
    norm=st.sampled_from([None, "BN"]),
    coarsest=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    training=st.booleans(),
)
def test_matches_mmdet(
    levels: int, blocks: int, depthwise: bool, norm: str | None, coarsest: tuple[int, int], training: bool
):
    theirs, ours = (copy.deepcopy(module) for module in pair(levels, blocks, depthwise, norm))
    training = training and coarsest[0] * coarsest[1] > 1  # statistics of two values are ill-conditioned
    theirs.train(training), ours.train(training)
    sizes = [(coarsest[0] << k, coarsest[1] << k) for k in reversed(range(levels))]
    maps = [torch.randn(2, c, *size).double() for c, size in zip(CHANNELS[-levels:], sizes, strict=True)]
    assert_equals_peer(ours, theirs, maps, tables.mmdet())


@pytest.mark.mmdet
@pytest.mark.parametrize("norm", [None, "BN"])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("levels", [1, 3])
def test_the_key_map_is_exact_both_ways(levels: int, depthwise: bool, norm: str | None):
    theirs, ours = pair(levels, 2, depthwise, norm)
    assert_exact_both_ways(tables.mmdet(), theirs, ours)


@pytest.mark.mmdet
@pytest.mark.parametrize(("levels", "blocks", "depthwise"), [(4, 2, False), (3, 1, False), (3, 2, True)])
def test_a_checkpoint_of_another_pyramid_is_an_error(levels: int, blocks: int, depthwise: bool):
    theirs, _ = pair(levels, blocks, depthwise, "BN")
    with pytest.raises(ValueError, match="fits this module only in part"):
        CSPPAFPN(CHANNELS[-3:], 3, 2).load_state_dict(theirs.state_dict())


@pytest.mark.mmdet
@pytest.mark.parametrize("sizes", [[(13, 10), (7, 5), (4, 3)], [(13, 10), (6, 5), (3, 2)], [(1, 1)] * 3])
def test_works_on_sizes_where_mmdet_raises(sizes: list[tuple[int, int]], make_maps: Callable[..., list[Tensor]]):
    """Stages that round up, stages that round down, and maps of one cell."""
    theirs, ours = pair(3, 1, False, "BN")
    maps = make_maps(CHANNELS[-3:], sizes, dtype=torch.double)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        theirs.eval()(maps)
    outputs = ours.eval()(maps)
    assert [tuple(m.shape) for m in outputs] == [(2, 3, *size) for size in sizes]


# ------------------------------------------------------------------------------------------------- what it computes


def test_the_coarser_map_is_resized_to_the_finer_map(make_maps: Callable[..., list[Tensor]]):
    """Nearest on the way down; on the way up the extra row is cropped."""
    neck = CSPPAFPN([4, 6], 3, 1).double().eval()
    fine, coarse = make_maps([4, 6], [(5, 7), (2, 3)], dtype=torch.double)
    with torch.no_grad():
        reduced = neck.reduce_convs[0](coarse)
        rows, columns = [0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 2, 2]
        merged = neck.top_down_blocks[0]([reduced[:, :, rows][..., columns], fine])
        up = neck.downsample_convs[0](merged)
        assert tuple(up.shape[-2:]) == (3, 4)
        second = neck.bottom_up_blocks[0]([up[:, :, :2, :3], reduced])
        for got, expected in zip(neck([fine, coarse]), (merged, second), strict=True):
            conv = neck.output_convs[0 if expected is merged else 1]
            assert_same_maps(got, conv(expected))


def test_defaults_match_yolox():
    neck = CSPPAFPN([8, 16], 8)
    norms = [layer for layer in neck.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
    assert all(len(block.blocks) == 3 for block in [*neck.top_down_blocks, *neck.bottom_up_blocks])
    convs = [layer for layer in neck.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) == len(norms)
    for conv in convs:
        bound = conv.weight[0].numel() ** -0.5  # Kaiming uniform with a = sqrt(5)
        assert 0.8 * bound < float(conv.weight.detach().abs().max()) <= bound


def test_init_is_applied():
    torch.manual_seed(3)
    neck = CSPPAFPN([4, 6], 8, norm=None, init="caffe2_xavier")
    assert all(torch.count_nonzero(p) == 0 for key, p in neck.named_parameters() if key.endswith("bias"))


def test_norm_act_and_conv_reach_every_convolution():
    class Marked(nn.Conv2d):
        pass

    neck = CSPPAFPN([4, 6], 8, 1, depthwise=True, norm="BN", act=nn.Tanh, conv=Marked)
    kinds = [type(layer) for layer in neck.modules()]
    # two CSP layers of 3 + 1 + 2, one reduction, one separable downsampling, two outputs
    assert kinds.count(Marked) == kinds.count(nn.BatchNorm2d) == kinds.count(nn.Tanh) == 2 * 6 + 1 + 2 + 2
    assert kinds.count(nn.Conv2d) == 0
    assert sum(layer.groups > 1 for layer in neck.modules() if isinstance(layer, Marked)) == 3


@pytest.mark.parametrize("mode", ["bilinear", "deconv"])
def test_other_ways_to_upsample(mode: str, make_maps: Callable[..., list[Tensor]]):
    neck = CSPPAFPN([4, 5, 6], 8, 1, upsample_mode=mode)
    sizes = [(9, 12), (5, 6), (3, 3)]
    assert [tuple(m.shape[-2:]) for m in neck(make_maps([4, 5, 6], sizes))] == sizes


@pytest.mark.parametrize("indices", [(0,), (1, 2, 3), (0, 1, 2, 3)])
def test_in_indices_choose_the_inputs(indices: tuple[int, ...], make_maps: Callable[..., list[Tensor]]):
    sizes = [(20, 13), (10, 7), (5, 4), (3, 2)]
    neck = CSPPAFPN(CHANNELS, 3, 1, in_indices=indices).eval()
    specs = neck.out_specs([FeatureSpec(c, 4 << k) for k, c in enumerate(CHANNELS)])
    assert specs == tuple(FeatureSpec(3, 4 << index) for index in indices)
    alone = CSPPAFPN([CHANNELS[index] for index in indices], 3, 1).eval()
    alone.load_state_dict(neck.state_dict())
    maps = make_maps(CHANNELS, sizes)
    for got, expected in zip(neck(maps), alone([maps[index] for index in indices]), strict=True):
        assert torch.equal(got, expected)


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_maps: Callable[..., list[Tensor]]):
    maps = make_maps(CHANNELS, [(24, 16), (12, 8), (6, 4), (3, 2)], dtype=torch.double)
    plain = CSPPAFPN(CHANNELS, 4).double()
    frugal = CSPPAFPN(CHANNELS, 4, gradient_checkpointing=True).double()
    assert_checkpointing_changes_nothing(plain, frugal, maps)


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": []}, "in_channels=[] must list"),
        ({"in_channels": [8, 1]}, "in_channels=[8, 1] must each be at least 2"),
        ({"in_indices": (0, 2)}, "in_indices=[0, 2] must be adjacent"),
        ({"num_blocks": -1}, "num_blocks=-1 must be at least 0"),
        ({"norm": "FrozenBN"}, "norm='FrozenBN' is unknown"),
        ({"act": "swish"}, "act='swish' is unknown"),
        ({"upsample_mode": "bicubic"}, "upsample_mode='bicubic' is unknown"),
        ({"init": "he"}, "init='he' is unknown"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        CSPPAFPN(**{"in_channels": CHANNELS, "out_channels": 4, **arguments})


def test_other_maps_than_it_was_built_for_name_both_lists(make_maps: Callable[..., list[Tensor]]):
    neck = CSPPAFPN([4, 6], 3, 1)
    with pytest.raises(ValueError, match=re.escape("CSPPAFPN was built for in_channels=[4, 6] but received 1 maps")):
        neck(make_maps([4], [(8, 8)]))
    with pytest.raises(ValueError, match=re.escape("but the module before it publishes channels [9]")):
        neck.out_specs([FeatureSpec(9, 4)])
    with pytest.raises(ValueError, match="doubles the resolution from level to level"):
        neck.out_specs([FeatureSpec(4, 8), FeatureSpec(6, 32)])


def test_state_dict_keys_are_pinned():
    parts = [*(f"{p}_conv" for p in ("main", "short", "final"))]
    parts += [f"blocks.{j}.conv{n}" for j in range(3) for n in (1, 2)]
    names = [f"{kind}_convs.{i}" for kind in ("reduce", "downsample") for i in range(3)]
    names += [f"output_convs.{i}" for i in range(4)]
    names += [f"{path}_blocks.{i}.{part}" for path in ("top_down", "bottom_up") for i in range(3) for part in parts]
    assert_pinned("CSPPAFPN", normed_keys(*names))
