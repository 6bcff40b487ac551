"""CSPNeXtPAFPN and the other layers of CSPPAFPN match mmdet's CSPNeXtPAFPN and their definitions; keys and errors."""

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

from fpn_plugins import CSPPAFPN, CSPNeXtPAFPN
from fpn_plugins.necks.csp_pafpn import BLOCKS, WITHOUT_DEPTHWISE
from fpn_plugins.necks.rep import fuse_convs
from fpn_plugins.weights.maps import csp_pafpn as tables

CHANNELS = [4, 5, 6, 8]


@lru_cache
def pair(levels: int, blocks: int, depthwise: bool, expand_ratio: float) -> tuple[nn.Module, nn.Module]:
    """Build mmdet's neck with non-trivial weights, and ours with the same, in double precision."""
    from mmdet.models.necks import CSPNeXtPAFPN as Theirs

    theirs = Theirs(CHANNELS[-levels:], 3, blocks, depthwise, expand_ratio).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = CSPNeXtPAFPN(CHANNELS[-levels:], 3, blocks, depthwise, expand_ratio=expand_ratio).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.mmdet
@settings(max_examples=15)
@given(
    levels=st.integers(1, 4),
    blocks=st.integers(0, 2),
    depthwise=st.booleans(),
    expand_ratio=st.sampled_from([0.5, 1.0]),
    coarsest=st.tuples(st.integers(1, 4), st.integers(2, 4)),
    training=st.booleans(),
)
def test_matches_mmdet(
    levels: int, blocks: int, depthwise: bool, expand_ratio: float, coarsest: tuple[int, int], training: bool
):
    theirs, ours = (copy.deepcopy(module) for module in pair(levels, blocks, depthwise, expand_ratio))
    theirs.train(training), ours.train(training)
    sizes = [(coarsest[0] << k, coarsest[1] << k) for k in reversed(range(levels))]
    maps = [torch.randn(2, c, *size).double() for c, size in zip(CHANNELS[-levels:], sizes, strict=True)]
    assert_equals_peer(ours, theirs, maps, tables.mmdet())


@pytest.mark.mmdet
@pytest.mark.parametrize("depthwise", [False, True])
def test_the_key_map_is_exact_both_ways(depthwise: bool):
    assert_exact_both_ways(tables.mmdet(), *pair(3, 2, depthwise, 0.5))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_works_at_sizes_that_are_rounded_either_way(block: str, make_maps: Callable[..., list[Tensor]]):
    neck = CSPPAFPN(CHANNELS[1:], 8, 1, block=block).eval()
    for sizes in ([(13, 10), (7, 5), (4, 3)], [(13, 10), (6, 5), (3, 2)], [(1, 1)] * 3):
        assert [tuple(m.shape) for m in neck(make_maps(CHANNELS[1:], sizes))] == [(2, 8, *size) for size in sizes]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_reads_both_maps(block: str, make_maps: Callable[..., list[Tensor]]):
    neck = CSPPAFPN([4, 6], 3, 2, block=block).double().eval()
    fine, coarse = make_maps([4, 6], [(6, 8), (3, 4)], dtype=torch.double)
    with torch.no_grad():
        reduced = neck.reduce_convs[0](coarse)
        doubled = reduced.repeat_interleave(2, 2).repeat_interleave(2, 3)
        merged = neck.top_down_blocks[0](torch.cat([doubled, fine], 1))
        second = neck.bottom_up_blocks[0](torch.cat([neck.downsample_convs[0](merged), reduced], 1))
        expected = [conv(x) for conv, x in zip(neck.output_convs, (merged, second), strict=True)]
        assert_same_maps(neck([fine, coarse]), expected)


@pytest.mark.parametrize("block", WITHOUT_DEPTHWISE)
def test_branches_are_fused_for_deployment(block: str, make_maps: Callable[..., list[Tensor]]):
    neck = CSPPAFPN([4, 6], 8, 2, block=block).double().eval()
    for p in neck.parameters():
        nn.init.normal_(p, std=0.5)
    fused, maps = fuse_convs(neck), make_maps([4, 6], [(6, 8), (3, 4)], dtype=torch.double)
    assert_same_maps(fused(maps), neck(maps))
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in neck.parameters())


@pytest.mark.parametrize("block", ["cspnext", "elan"])
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(
    block: str, make_maps: Callable[..., list[Tensor]]
):
    maps = make_maps(CHANNELS, [(24, 16), (12, 8), (6, 4), (3, 2)], dtype=torch.double)
    plain, frugal = (
        CSPPAFPN(CHANNELS, 4, 1, block=block, gradient_checkpointing=checkpointed).double()
        for checkpointed in (False, True)
    )
    assert_checkpointing_changes_nothing(plain, frugal, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "c3"}, "block='c3' is unknown"),
        ({"block": "elan", "depthwise": True}, "depthwise=True needs another block than 'elan'"),
        ({"expand_ratio": 0.1}, "in_channels=[4, 5, 6, 8] must each be at least 1 / expand_ratio=0.1"),
        ({"output_kernel_size": 5}, "output_kernel_size=5 must be 1 or 3"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        CSPPAFPN(**{"in_channels": CHANNELS, "out_channels": 4, **arguments})


@pytest.mark.parametrize("block", ["csp", "cspnext", "elan"])
def test_depthwise_is_a_truth_value_with_every_block(block: str):
    with pytest.raises(TypeError, match=r"depthwise=tensor\(\[1., 1.\]\) must be True or False"):
        CSPPAFPN(CHANNELS, 4, block=block, depthwise=torch.ones(2), output_kernel_size=3)  # type: ignore[arg-type]


def test_state_dict_keys_are_pinned():
    block = [*(f"{p}_conv" for p in ("main", "short", "final"))]
    block += [
        f"blocks.{j}.{part}" for j in range(3) for part in ("conv1", "conv2.depthwise_conv", "conv2.pointwise_conv")
    ]
    names = [f"{kind}_convs.{i}" for kind in ("reduce", "downsample") for i in range(3)]
    names += [f"output_convs.{i}" for i in range(4)]
    names += [f"{path}_blocks.{i}.{part}" for path in ("top_down", "bottom_up") for i in range(3) for part in block]
    assert_pinned("CSPNeXtPAFPN", normed_keys(*names))
