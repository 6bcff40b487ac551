"""DilatedEncoder matches mmdet's in keys, outputs, gradients and statistics, at any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways, randomize
from state_keys import assert_pinned, normed_keys

from fpn_plugins import DilatedEncoder, FeatureSpec
from fpn_plugins.weights.maps import dilated_encoder

SPECS = [FeatureSpec(4, 16), FeatureSpec(6, 32)]


@pytest.mark.mmdet
@pytest.mark.parametrize("dilations", [(2, 4, 6, 8), (1, 3)])
@settings(max_examples=8)
@given(height=st.integers(1, 11), width=st.integers(1, 11))
def test_matches_mmdet(dilations: tuple[int, ...], height: int, width: int) -> None:
    from mmdet.models.necks import DilatedEncoder as Official

    peer = Official(6, 8, 4, len(dilations), dilations).double()
    randomize(peer)
    neck = DilatedEncoder([6], 8, 4, dilations).double()
    neck.load_state_dict(peer.state_dict())
    maps = [torch.randn(2, 6, height, width, dtype=torch.float64)]
    assert_equals_peer(neck, peer, maps, dilated_encoder.mmdet())
    assert_exact_both_ways(dilated_encoder.mmdet(), peer, neck)


def test_reads_only_the_last_map() -> None:
    neck = DilatedEncoder([4, 6], 8, 4).eval()
    assert neck.out_specs(SPECS) == (FeatureSpec(8, 32),) and neck.read_indices == (1,)
    a, b = torch.randn(1, 4, 9, 9), torch.randn(1, 6, 5, 5)
    (expected,), (got,) = neck([a, b]), neck([a + 1, b])
    assert torch.equal(expected, got)
    finer = DilatedEncoder([4, 6], 8, 4, in_indices=(0,))
    assert finer.out_specs(SPECS) == (FeatureSpec(8, 16),)


def test_the_backbone_leaves_out_what_is_not_read() -> None:
    from fpn_plugins import Pyramid

    swin = {"type": "Swin", "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 4}
    pyramid = Pyramid(swin, {"type": "DilatedEncoder", "out_channels": 8, "mid_channels": 4})
    (out,) = pyramid(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 8, 2, 2)
    assert [key for key in pyramid.state_dict() if key.startswith("backbone.norm")] == [
        "backbone.norm3.weight",
        "backbone.norm3.bias",
    ]


def test_gradient_checkpointing() -> None:
    plain, frugal = (DilatedEncoder([6], 8, 4, gradient_checkpointing=flag).double() for flag in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, [torch.randn(2, 6, 5, 4, dtype=torch.float64)])


def test_dilations_are_at_least_one() -> None:
    with pytest.raises(ValueError, match=r"dilations=\[0, 2\] must be integers of at least 1"):
        DilatedEncoder([6], 8, dilations=(0, 2))


def test_state_dict_keys_are_pinned() -> None:
    biased = ("lateral_conv", "output_conv")
    keys = normed_keys(*biased, *(f"blocks.{i}.conv{k}" for i in range(2) for k in (1, 2, 3)))
    assert_pinned("DilatedEncoder", keys | {f"{name}.conv.bias" for name in biased})
