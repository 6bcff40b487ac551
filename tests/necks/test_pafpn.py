"""PAFPN matches mmdet's in keys, outputs and gradients, as plain modules."""

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

from fpn_plugins import FPN, PAFPN, ExtraLevels, FeatureSpec
from fpn_plugins.weights.maps import fpn as tables

CHANNELS = [6, 8, 12]


def mmdets(**arguments: Any) -> nn.Module:
    """Build mmdet's neck in double precision."""
    from mmdet.models.necks import PAFPN as Official

    return Official(in_channels=CHANNELS, out_channels=8, **arguments).double()


def draw(height: int, width: int) -> list[Tensor]:
    """Build maps with the channels above, each half (rounded up) of the previous one."""
    maps = []
    for channels in CHANNELS:
        maps.append(torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True))
        height, width = -(-height // 2), -(-width // 2)
    return maps


@pytest.mark.mmdet
@pytest.mark.parametrize("source", ["max_pool", "on_input", "on_lateral", "on_output"])
@given(height=st.integers(1, 40), width=st.integers(1, 40), relu=st.booleans())
def test_matches_mmdet(source: str, height: int, width: int, relu: bool) -> None:
    extra = False if source == "max_pool" else source
    theirs = mmdets(num_outs=5, add_extra_convs=extra, relu_before_extra_convs=relu)
    levels = ExtraLevels(2) if not extra else ExtraLevels(2, "conv", source.removeprefix("on_"), relu, bare=False)
    ours = PAFPN(CHANNELS, 8, extra_levels=levels).double()
    ours.load_state_dict(theirs.state_dict())
    inputs = draw(height, width)
    wanted, got = theirs(inputs), ours(inputs)
    assert_same_maps(got, wanted)
    parameters = [(p, q) for p, q in zip(theirs.parameters(), ours.parameters(), strict=True)]
    a = torch.autograd.grad(sum(w.square().sum() for w in wanted), [*inputs, *(p for p, _ in parameters)])
    b = torch.autograd.grad(sum(g.square().sum() for g in got), [*inputs, *(q for _, q in parameters)])
    assert_same_gradients(b, a)


@pytest.mark.mmdet
def test_the_key_map_goes_both_ways() -> None:
    theirs = mmdets(num_outs=4, add_extra_convs="on_output").state_dict()
    ours = PAFPN(CHANNELS, 8, extra_levels=ExtraLevels(1, "conv", bare=False))
    renamed, report = tables.mmdet(3).apply(theirs, ours.state_dict())
    assert report.complete, str(report)
    back, _ = tables.mmdet(3).inverse().apply(renamed, theirs)
    assert set(back) == set(theirs) and all(back[key] is theirs[key] for key in theirs)


def test_without_a_second_path_it_is_an_fpn(make_maps: Callable[..., list[Tensor]]) -> None:
    """The finest level equals FPN's; the coarser ones differ."""
    ours = PAFPN(CHANNELS, 8)
    plain = FPN(CHANNELS, 8)
    plain.load_state_dict({key: value for key, value in ours.state_dict().items() if key in plain.state_dict()})
    maps = make_maps(CHANNELS, [(8, 8), (4, 4), (2, 2)])
    with torch.no_grad():
        got, wanted = ours(maps), plain(maps)
    assert torch.equal(got[0], wanted[0])
    assert not torch.allclose(got[1], wanted[1])


def test_relu_of_the_paper_acts_on_the_second_path_alone(make_maps: Callable[..., list[Tensor]]) -> None:
    ours = PAFPN(CHANNELS, 8, bottom_up_act="relu")
    with torch.no_grad():
        outputs = ours(make_maps(CHANNELS, [(9, 7), (5, 4), (3, 2)]))
    assert outputs[0].min() < 0
    assert all(m.min() >= 0 for m in outputs[1:])


def test_a_checkpoint_of_an_fpn_is_not_half_loaded() -> None:
    with pytest.raises(RuntimeError, match="Missing key.*downsample_convs"):
        PAFPN(CHANNELS, 8).load_state_dict(FPN(CHANNELS, 8).state_dict())


def test_levels_are_chosen_as_in_fpn() -> None:
    ours = PAFPN(CHANNELS, 8, in_indices=(1, 2), extra_levels=ExtraLevels(1))
    specs = ours.out_specs([FeatureSpec(c, s) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)])
    assert [spec.stride for spec in specs] == [8, 16, 32]
    assert len(ours.downsample_convs) == len(ours.bottom_up_convs) == 1


def test_state_dict_keys_are_pinned():
    second = conv_keys(*(f"{kind}_convs.{i}" for kind in ("downsample", "bottom_up") for i in range(3)))
    assert_pinned("PAFPN", FPN_KEYS | second)
