"""HRFPN matches mmdet's in keys, outputs and gradients wherever mmdet's runs, and runs at every other size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_checkpointing_changes_nothing, assert_equals_peer, assert_exact_both_ways, randomize
from state_keys import assert_pinned, conv_keys
from torch import Tensor

from fpn_plugins import HRFPN, FeatureSpec
from fpn_plugins.weights.maps import hrfpn

CHANNELS = [3, 4, 5]


def exact_halves(height: int, width: int) -> list[Tensor]:
    """Draw three maps; the sides of the last are given."""
    return [
        torch.randn(2, channels, height << k, width << k, dtype=torch.float64)
        for channels, k in zip(CHANNELS, (2, 1, 0), strict=True)
    ]


@pytest.mark.mmdet
@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize(("stride", "num_outs"), [(1, 3), (2, 2), (1, 1)])
@settings(max_examples=8)
@given(height=st.integers(1, 7), width=st.integers(1, 7))
def test_matches_mmdet(pooling: str, stride: int, num_outs: int, height: int, width: int) -> None:
    from mmdet.models.necks import HRFPN as Official

    peer = Official(CHANNELS, 8, num_outs, pooling, stride=stride).double()
    randomize(peer)
    neck = HRFPN(CHANNELS, 8, num_outs, pooling=pooling.lower(), stride=stride).double()
    neck.load_state_dict(peer.state_dict())
    assert_equals_peer(neck, peer, exact_halves(height, width), hrfpn.mmdet())
    assert_exact_both_ways(hrfpn.mmdet(), peer, neck)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pools_as_pytorch_does_where_maps_are_large_enough(pooling: str) -> None:
    neck = HRFPN(CHANNELS, 8, pooling=pooling)
    expected = F.avg_pool2d if pooling == "avg" else F.max_pool2d
    for size, window in (((9, 13), 4), ((2, 5), 2), ((8, 8), 8)):
        x = torch.randn(1, 8, *size)
        assert torch.equal(neck.pool(x, window), expected(x, window, window))
    whole = neck.pool(torch.ones(1, 8, 3, 21), 16)
    assert whole.shape[-2:] == (1, 1) and bool((whole == 1).all())


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=15)
def test_any_sizes(height: int, width: int) -> None:
    """mmdet's fails at these."""
    sizes = [(height, width), (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))]
    maps = [torch.randn(1, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]
    outputs = HRFPN(CHANNELS, 8)(maps)
    wanted = [(max(1, height >> k), max(1, width >> k)) for k in range(5)]
    assert [tuple(m.shape[-2:]) for m in outputs] == wanted


def test_a_constant_map_keeps_its_value() -> None:
    neck = HRFPN([1, 1], 1, 3)
    torch.nn.init.constant_(neck.reduction_conv.conv.weight, 0.5)
    maps = [torch.full((1, 1, 7, 9), 3.0), torch.full((1, 1, 4, 5), 5.0)]
    seen: list[Tensor] = []
    for conv in neck.output_convs:
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    neck(maps)
    assert len(seen) == 3 and all(torch.allclose(x, torch.tensor(4.0)) for x in seen)


def test_specs() -> None:
    specs = [FeatureSpec(c, s) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)]
    assert [s.stride for s in HRFPN(CHANNELS, 8).out_specs(specs)] == [4, 8, 16, 32, 64]
    assert [s.stride for s in HRFPN(CHANNELS, 8, stride=2).out_specs(specs)] == [8, 16, 32, 64, 128]
    assert [s.stride for s in HRFPN(CHANNELS, 8, 2, in_indices=(1, 2)).out_specs(specs)] == [8, 16]


def test_gradient_checkpointing() -> None:
    plain, frugal = (HRFPN(CHANNELS, 8, 3, norm="BN", gradient_checkpointing=flag).double() for flag in (False, True))
    assert_checkpointing_changes_nothing(plain, frugal, exact_halves(2, 3))


def test_an_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="pooling='mean' is unknown.*avg"):
        HRFPN(CHANNELS, pooling="mean")


def test_state_dict_keys_are_pinned() -> None:
    assert_pinned("HRFPN", conv_keys("reduction_conv", *(f"output_convs.{i}" for i in range(4))))
