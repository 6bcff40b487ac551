"""Scripted necks return the same maps with any option, and scripting leaves the neck unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from torch import nn

from fpn_plugins import FPN, PAFPN, ExtraLevels, FeatureSpec
from fpn_plugins.necks import build_neck

CHANNELS = [3, 4, 5]
SIZES = [(11, 14), (6, 7), (3, 4)]  # PAFPN takes what rounds up
OPTIONS: list[dict[str, Any]] = [
    {"norm": "GN", "act": "relu"},
    {"norm": "LN", "norm_on_lateral": False, "fusion": "avg"},
    {"norm": partial(nn.BatchNorm2d, eps=1e-3), "upsample_mode": "bilinear", "in_indices": (1, 2)},
    {"upsample_mode": "deconv", "extra_levels": ExtraLevels(2, "conv", "lateral")},
    {"upsample_mode": "pixel_shuffle", "extra_levels": ExtraLevels(2, "conv", "output", bare=False), "act": "silu"},
    {"upsample_mode": "carafe", "extra_levels": ExtraLevels(2, "conv", "input", in_top_down=True)},
    {"extra_levels": ExtraLevels(2), "gradient_checkpointing": True},
]


@pytest.fixture(autouse=True)
def no_deprecation() -> Any:
    """PyTorch discourages TorchScript, on which Detectron2's deployment is built."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.*", DeprecationWarning)
        yield


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("kind", [FPN, PAFPN])
def test_scripted_equals_eager_in_outputs_and_gradients(kind: type[FPN], options: dict[str, Any], make_maps: Callable):
    neck = kind(CHANNELS, 32, **options).double()
    scripted = torch.jit.script(neck)
    maps = make_maps(CHANNELS, SIZES, dtype=torch.double)
    expected = neck(maps)
    assert isinstance(expected, tuple)
    got = scripted(maps)
    assert_same_maps(got, expected)
    weights = list(neck.parameters())
    assert {p.data_ptr() for p in scripted.parameters()} == {p.data_ptr() for p in weights}  # shared, not copied
    grads = [torch.autograd.grad(sum(m.square().mean() for m in out), weights) for out in (got, expected)]
    assert_same_gradients(*grads)


def test_scripting_leaves_the_neck_as_it_was(make_maps: Callable):
    neck = FPN(CHANNELS, 8)
    layers = list(neck.modules())
    torch.jit.script(neck)
    assert all(after is before for after, before in zip(neck.modules(), layers, strict=True))
    assert type(neck) is FPN and isinstance(neck(make_maps(CHANNELS, SIZES)), tuple)
    with pytest.raises(ValueError, match="built for in_channels"):  # eager still checks
        neck(make_maps(CHANNELS[:2], SIZES[:2]))


@pytest.mark.parametrize("refine", [None, "conv", "non_local"])
def test_a_chain_scripts_to_the_same(refine: str | None, make_maps: Callable):
    specs = [FeatureSpec(channels, stride) for channels, stride in zip(CHANNELS, (4, 8, 16), strict=True)]
    chain = build_neck([{"type": "FPN", "out_channels": 8}, {"type": "BFP", "refine": refine}], specs).double().eval()
    parts = list(chain)
    scripted = torch.jit.script(chain)
    maps = make_maps(CHANNELS, SIZES, dtype=torch.double)
    assert_same_maps(scripted(maps), chain(maps))
    assert list(chain) == parts
