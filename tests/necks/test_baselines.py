"""The baselines differ from FPN only in the merging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from state_keys import FPN_KEYS, assert_pinned, conv_keys
from torch import Tensor, nn

from fpn_plugins import FPN, ExtraLevels, FeatureSpec, SingleScale, SSDPyramid, TopDownPyramid

CHANNELS = [6, 8, 12]
SIZES = [(9, 7), (5, 4), (3, 2)]
SPECS = [FeatureSpec(c, s) for c, s in zip(CHANNELS, (8, 16, 32), strict=True)]


def test_ssd_pyramid_is_an_fpn_on_each_map_alone(make_maps: Callable[..., list[Tensor]]) -> None:
    maps = make_maps(CHANNELS, SIZES)
    ours, fpn = SSDPyramid(CHANNELS, 8, extra_levels=ExtraLevels(1)), FPN(CHANNELS, 8, extra_levels=ExtraLevels(1))
    ours.load_state_dict(fpn.state_dict())
    with torch.no_grad():
        got, merged = ours(maps), fpn(maps)
        assert torch.equal(got[2], merged[2]) and not torch.allclose(got[0], merged[0])
        for index, m in enumerate(maps):
            alone = FPN(CHANNELS[index : index + 1], 8)
            alone.load_state_dict(
                {
                    key.replace(f".{index}.", ".0."): value
                    for key, value in fpn.state_dict().items()
                    if f"convs.{index}." in key
                }
            )
            assert torch.equal(alone([m])[0], got[index])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upsample_mode": "bilinear", "extra_levels": ExtraLevels(2, "conv", "input"), "act": "relu"},
        {"upsample_mode": "deconv", "extra_levels": ExtraLevels(1, "conv", "lateral")},
        {"in_indices": (0, 1), "extra_levels": ExtraLevels(1)},
    ],
    ids=lambda options: "-".join(options) or "defaults",
)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_top_down_pyramid_is_an_fpn_whose_finer_laterals_are_zero(
    options: dict[str, Any], height: int, width: int, make_maps: Callable[..., list[Tensor]]
) -> None:
    ours, fpn = TopDownPyramid(CHANNELS, 8, **options).double(), FPN(CHANNELS, 8, **options).double()
    for parameter in fpn.parameters():
        nn.init.normal_(parameter, std=0.3)
    for parameter in fpn.lateral_convs[:-1].parameters():
        nn.init.zeros_(parameter)
    ours.load_state_dict({key: value for key, value in fpn.state_dict().items() if key in ours.state_dict()})
    sizes = [(-(-height // scale), -(-width // scale)) for scale in (1, 2, 4)]
    maps = make_maps(CHANNELS, sizes, dtype=torch.float64)
    got, expected = ours(maps), fpn(maps)
    assert len(got) == len(expected) and all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    for outputs in (got, expected):
        sum(m.square().sum() for m in outputs).backward()
    theirs = dict(fpn.named_parameters())
    assert len(theirs) - len(list(ours.parameters())) == 2 * (len(ours.in_indices) - 1)
    own = {key: parameter.grad for key, parameter in ours.named_parameters()}
    assert_same_gradients(own, {key: theirs[key].grad for key in own})


def seeded(kind: type[FPN], seed: int) -> FPN:
    torch.manual_seed(seed)
    return kind(CHANNELS, 8)


def test_top_down_pyramid_starts_as_an_fpn_and_takes_its_weights_on_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fpn, ours, other = (seeded(kind, seed) for kind, seed in ((FPN, 3), (TopDownPyramid, 3), (TopDownPyramid, 4)))
    common = {
        key: value
        for key, value in fpn.state_dict().items()
        if not key.startswith(("lateral_convs.0", "lateral_convs.1"))
    }
    assert_same_maps(dict(ours.state_dict()), common, tolerance=0)
    with pytest.raises(ValueError, match=r"only in part.*unexpected: lateral_convs\.0\.conv\.bias"):
        other.load_state_dict(fpn.state_dict())
    monkeypatch.setenv("FPN_PLUGINS_PARTIAL_LOAD", "1")
    other.load_state_dict(fpn.state_dict())
    assert_same_maps(dict(other.state_dict()), common, tolerance=0)


def test_top_down_pyramid_begins_at_its_lateral() -> None:
    with pytest.raises(ValueError, match=r"extra_levels cannot have in_top_down=True"):
        TopDownPyramid(CHANNELS, 8, extra_levels=ExtraLevels(2, "conv", "input", in_top_down=True))


@pytest.mark.parametrize("neck", [SSDPyramid, SingleScale])
def test_arguments_of_a_top_down_path_are_refused_without_one(neck: type) -> None:
    with pytest.raises(ValueError, match=f"{neck.__name__} has no top-down path for extra_levels"):
        neck(CHANNELS, 8, extra_levels=ExtraLevels(2, "conv", "input", in_top_down=True))
    if neck is SSDPyramid:
        with pytest.raises(ValueError, match="SSDPyramid has no top-down path for a learned upsample_mode"):
            neck(CHANNELS, 8, upsample_mode="deconv")


@pytest.mark.parametrize(("index", "stride"), [(None, 32), ((1,), 16)])
def test_single_scale_reads_one_map(
    index: tuple[int, ...] | None, stride: int, make_maps: Callable[..., list[Tensor]]
) -> None:
    maps = make_maps(CHANNELS, SIZES)
    neck = SingleScale(CHANNELS, 8, in_indices=index)
    (output,) = neck(maps)
    position = 2 if index is None else index[0]
    assert output.shape[-2:] == maps[position].shape[-2:]
    assert [spec.stride for spec in neck.out_specs(SPECS)] == [stride]
    others = [torch.zeros_like(m) if i != position else m for i, m in enumerate(maps)]
    assert torch.equal(neck(others)[0], output)


def test_single_scale_needs_one_position() -> None:
    with pytest.raises(ValueError, match=r"one map, got in_indices=\[0, 1\]"):
        SingleScale(CHANNELS, 8, in_indices=(0, 1))
    with pytest.raises(ValueError, match=r"in_indices=\[3\]"):
        SingleScale(CHANNELS, 8, in_indices=(3,))


def test_state_dict_keys_are_pinned() -> None:
    assert_pinned("SSDPyramid", FPN_KEYS)
    assert_pinned("TopDownPyramid", conv_keys("lateral_convs.3", *(f"output_convs.{i}" for i in range(4))))
    assert_pinned("SingleScale", conv_keys("lateral_convs.0", "output_convs.0"))
