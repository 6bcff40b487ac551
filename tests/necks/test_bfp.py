"""BFP matches mmdet's in keys, outputs and gradients, for every kind of refinement."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from state_keys import assert_pinned, conv_keys
from torch import Tensor, nn

from fpn_plugins import BFP, FeatureSpec
from fpn_plugins.weights.maps import bfp as tables


def mmdets(refine: str | None, level: int, norm: str | None = None) -> nn.Module:
    """Build mmdet's neck in double precision with non-trivial weights."""
    from mmdet.models.necks import BFP as Official

    norm_cfg = {"type": norm} if norm else None
    neck = Official(8, 4, refine_level=level, refine_type=refine, norm_cfg=norm_cfg).double()
    for p in neck.parameters():  # the non-local block starts as the identity
        nn.init.normal_(p, std=0.3)
    return neck


def draw(height: int, width: int) -> list[Tensor]:
    """Build four maps of 8 channels, each half (rounded up) of the previous one."""
    maps = []
    for _ in range(4):
        maps.append(torch.randn(2, 8, height, width, dtype=torch.float64, requires_grad=True))
        height, width = -(-height // 2), -(-width // 2)
    return maps


@pytest.mark.mmdet
@pytest.mark.parametrize("refine", [None, "conv", "non_local"])
@pytest.mark.parametrize("norm", [None, "BN"])
@given(height=st.integers(1, 33), width=st.integers(1, 33), level=st.integers(0, 3))
def test_matches_mmdet(refine: str | None, norm: str | None, height: int, width: int, level: int) -> None:
    theirs = mmdets(refine, level, norm).eval()
    ours = BFP([8] * 4, refine_index=level, refine=refine, norm=norm).double().eval()
    ours.load_state_dict(theirs.state_dict())
    inputs = draw(height, width)
    wanted, got = theirs(inputs), ours(inputs)
    assert_same_maps(got, wanted)
    a = torch.autograd.grad(sum(w.square().sum() for w in wanted), [*inputs, *theirs.parameters()])
    b = torch.autograd.grad(sum(g.square().sum() for g in got), [*inputs, *ours.parameters()])
    assert_same_gradients(b, a)


@pytest.mark.mmdet
@pytest.mark.parametrize("refine", ["conv", "non_local"])
def test_the_key_map_goes_both_ways(refine: str) -> None:
    theirs = mmdets(refine, 2, "BN").state_dict()
    ours = BFP([8] * 4, refine=refine, norm="BN").state_dict()
    renamed, report = tables.mmdet().apply(theirs, ours)
    assert report.complete, str(report)
    assert set(tables.mmdet().inverse().apply(renamed, theirs)[0]) == set(theirs)


def test_the_non_local_block_starts_as_the_identity() -> None:
    maps = [m.detach().float() for m in draw(8, 8)]
    plain, refined = BFP([8] * 4, refine=None), BFP([8] * 4, refine="non_local")
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(plain(maps), refined(maps), strict=True))


def test_specs_are_those_of_the_inputs() -> None:
    specs = tuple(FeatureSpec(8, s) for s in (4, 8, 16, 32))
    assert BFP([8] * 4).out_specs(specs) == specs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": [8, 16]}, r"in_channels=\[8, 16\].*equal for all maps"),
        ({"in_channels": [8, 8], "out_channels": 16, "refine_index": 0}, "out_channels=16: BFP keeps the channels"),
        ({"in_channels": [8, 8]}, "refine_index=2 must be a position among the 2 inputs"),
        ({"in_channels": [8, 8], "refine_index": 0, "refine": "blur"}, "refine='blur' is unknown.*non_local"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BFP(**arguments)


def test_after_another_neck() -> None:
    from fpn_plugins import build_neck

    specs = [FeatureSpec(c, s) for c, s in zip((4, 6, 8), (8, 16, 32), strict=True)]
    neck = build_neck([{"type": "FPN", "out_channels": 8, "extra_levels": {"num_levels": 1}}, {"type": "BFP"}], specs)
    assert [spec.stride for spec in neck.out_specs(specs)] == [8, 16, 32, 64]
    outputs = neck([torch.randn(1, s.channels, 64 // s.stride, 32 // s.stride) for s in specs])
    assert [tuple(m.shape[1:]) for m in outputs] == [(8, 8, 4), (8, 4, 2), (8, 2, 1), (8, 1, 1)]
    assert "0.lateral_convs.0.conv.weight" in neck.state_dict() and "1.refine.g.conv.weight" in neck.state_dict()


def test_state_dict_keys_are_pinned():
    assert_pinned("BFP", conv_keys(*(f"refine.{part}" for part in ("g", "conv_out", "theta", "phi"))))
