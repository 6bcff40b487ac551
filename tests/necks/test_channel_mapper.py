"""ChannelMapper matches mmdet's in keys, outputs and gradients, at any sizes, with every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways, halves, randomize
from state_keys import assert_pinned

from fpn_plugins import ChannelMapper, FeatureSpec
from fpn_plugins.necks.channel_mapper import C6
from fpn_plugins.weights.maps import channel_mapper

TWO_MORE = {**C6, "num_levels": 2}


def draw(channels: list[int], height: int, width: int) -> list[torch.Tensor]:
    sizes = halves((height, width), len(channels))
    return [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {"kernel_size": 3, "norm": None, "act": "relu"}),
        (
            {"kernel_size": 1, "act_cfg": None, "norm_cfg": {"type": "GN", "num_groups": 32}, "num_outs": 4},
            {"extra_levels": TWO_MORE},
        ),
        (
            {"kernel_size": 5, "norm_cfg": {"type": "BN"}, "bias": True, "num_outs": 3},
            {"kernel_size": 5, "norm": "BN", "act": "relu", "bias": True, "extra_levels": C6},
        ),
        (
            {"bias": False, "num_outs": 3},
            {"kernel_size": 3, "norm": None, "act": "relu", "bias": False, "extra_levels": C6},
        ),
    ],
)
@settings(max_examples=8)
@given(height=st.integers(9, 19), width=st.integers(9, 19))  # 2 cells at the last level: GN of one cell is constant
def test_matches_mmdet(theirs: dict[str, Any], ours: dict[str, Any], height: int, width: int) -> None:
    from mmdet.models.necks import ChannelMapper as Official

    peer = Official([4, 6], 32, **theirs).double()
    randomize(peer)
    neck = ChannelMapper([4, 6], 32, **ours).double()
    neck.load_state_dict(peer.state_dict())
    assert_equals_peer(neck, peer, draw([4, 6], height, width), channel_mapper.mmdet())
    if "gn" not in str(list(peer.state_dict())):  # the way back names every norm bn
        assert_exact_both_ways(channel_mapper.mmdet(), peer, neck)


def test_every_kind_of_extra_level() -> None:
    """mmdet has one kind only."""
    maps = draw([4, 6], 9, 13)
    for op, source in (("max_pool", "output"), ("conv", "output"), ("conv", "input")):
        neck = ChannelMapper([4, 6], 32, extra_levels={"num_levels": 2, "op": op, "source": source}).double()
        assert [tuple(m.shape[-2:]) for m in neck(maps)] == [(9, 13), (5, 7), (3, 4), (2, 2)]
    specs = [FeatureSpec(4, 16), FeatureSpec(6, 32)]
    assert [s.stride for s in neck.out_specs(specs)] == [16, 32, 64, 128]


def test_gradient_checkpointing() -> None:
    plain, frugal = (
        ChannelMapper([4, 6], 32, norm="BN", extra_levels=C6, gradient_checkpointing=flag).double()
        for flag in (False, True)
    )
    assert_checkpointing_changes_nothing(plain, frugal, draw([4, 6], 8, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2}, "kernel_size=2 must be odd"),
        ({"extra_levels": {**C6, "in_top_down": True}}, "no top-down path for extra_levels"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelMapper([4, 6], 32, **arguments)


def test_state_dict_keys_are_pinned() -> None:
    parts = ("conv.weight", "norm.weight", "norm.bias")
    assert_pinned("ChannelMapper", {f"convs.{i}.{part}" for i in range(4) for part in parts})
