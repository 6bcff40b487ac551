"""SSH matches mmdet's in keys, outputs, gradients and statistics, at any sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways, halves, randomize
from state_keys import assert_pinned, normed_keys
from torch import Tensor

from fpn_plugins import SSH, FeatureSpec
from fpn_plugins.weights.maps import ssh

CONTEXT = ("conv5x5_1", "conv5x5_2", "conv7x7_2", "conv7x7_3")


def draw(height: int, width: int) -> list[Tensor]:
    sizes = halves((height, width), 2)
    return [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip((3, 5), sizes, strict=True)]


@pytest.mark.mmdet
@pytest.mark.parametrize("norm", ["BN", None])
@settings(max_examples=8)
@given(height=st.integers(1, 13), width=st.integers(1, 13))
def test_matches_mmdet(norm: str | None, height: int, width: int) -> None:
    from mmdet.models.necks import SSH as Official

    peer = Official(2, [3, 5], [8, 12], norm_cfg=norm and {"type": norm}).double()
    randomize(peer)
    neck = SSH([3, 5], [8, 12], norm=norm).double()
    neck.load_state_dict(peer.state_dict())
    assert_equals_peer(neck, peer, draw(height, width), ssh.mmdet())
    assert_exact_both_ways(ssh.mmdet(), peer, neck)


def test_specs_of_equal_and_of_different_channels() -> None:
    specs = [FeatureSpec(3, 8), FeatureSpec(5, 16)]
    assert SSH([3, 5], 8).out_specs(specs) == (FeatureSpec(8, 8), FeatureSpec(8, 16))
    assert SSH([3, 5], [8, 12]).out_specs(specs) == (FeatureSpec(8, 8), FeatureSpec(12, 16))
    assert SSH([3, 5], [12], in_indices=(1,)).out_specs(specs) == (FeatureSpec(12, 16),)


def test_after_an_fpn() -> None:
    from fpn_plugins import build_neck

    specs = [FeatureSpec(4, 8), FeatureSpec(6, 16)]
    neck = build_neck([{"type": "FPN", "out_channels": 8}, {"type": "SSH", "out_channels": [8, 16]}], specs)
    assert [spec.channels for spec in neck.out_specs(specs)] == [8, 16]
    outputs = neck([torch.randn(1, 4, 8, 6), torch.randn(1, 6, 4, 3)])
    assert [tuple(m.shape[1:]) for m in outputs] == [(8, 8, 6), (16, 4, 3)]


def test_gradient_checkpointing() -> None:
    plain, frugal = (SSH([3, 5], [8, 12], gradient_checkpointing=flag).double() for flag in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, draw(6, 5))


@pytest.mark.parametrize(
    ("out_channels", "message"),
    [
        (6, r"out_channels=\[6, 6\] must be multiples of 4"),
        ([8, 10], r"out_channels=\[8, 10\] must be multiples of 4"),
        ([8], r"out_channels=\[8\] must have 2 entries"),
    ],
)
def test_errors(out_channels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SSH([3, 5], out_channels)


def test_state_dict_keys_are_pinned() -> None:
    places = [f"levels.{i}.{part}" for i in range(4) for part in ("conv3x3", *(f"context.{c}" for c in CONTEXT))]
    assert_pinned("SSH", normed_keys(*places))
