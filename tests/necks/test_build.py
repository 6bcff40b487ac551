"""The `Neck` protocol: users' own modules in `build_neck`, in `NeckChain` and in the register, and their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN, NECKS, FeatureSpec, Neck, build_neck, register_neck
from fpn_plugins.necks import NeckChain
from fpn_plugins.testing import TINY_SPECS, make_pyramid


class Halved(nn.Module):
    """A neck with nothing of this package but the protocol: every second channel of each map."""

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        if [spec.channels for spec in in_specs] != list(self.in_channels):
            raise ValueError("other channels")
        return tuple(FeatureSpec(spec.channels // 2, spec.stride) for spec in in_specs)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(x[:, ::2] for x in inputs)


CHANNELS = [spec.channels for spec in TINY_SPECS]
HALVES = tuple(FeatureSpec(spec.channels // 2, spec.stride) for spec in TINY_SPECS)


@pytest.fixture
def registered() -> Iterator[type]:
    yield register_neck(Halved)
    del NECKS["Halved"]


def test_a_module_that_conforms_is_a_neck() -> None:
    neck: Neck = Halved(CHANNELS)
    assert build_neck(neck, TINY_SPECS) is neck
    with pytest.raises(ValueError, match="other channels"):
        build_neck(neck, TINY_SPECS[1:])


def test_a_registered_neck_is_built_by_name(registered: type) -> None:
    assert registered is Halved and register_neck(Halved) is Halved  # registering again changes nothing
    neck = build_neck({"type": "Halved"}, TINY_SPECS)
    assert isinstance(neck, Halved) and neck.in_channels == tuple(CHANNELS)


def test_foreign_necks_and_ours_follow_each_other(registered: type) -> None:
    chain = build_neck([Halved(CHANNELS), {"type": "FPN", "out_channels": 8}, {"type": "Halved"}], TINY_SPECS)
    assert isinstance(chain, NeckChain) and chain.in_channels == tuple(CHANNELS)
    assert chain.out_specs(TINY_SPECS) == tuple(FeatureSpec(4, spec.stride) for spec in TINY_SPECS)
    maps = make_pyramid()
    halved = chain[1](tuple(x[:, ::2] for x in maps))
    assert all(torch.equal(m, full[:, ::2]) for m, full in zip(chain(maps), halved, strict=True))
    assert build_neck(chain, TINY_SPECS) is chain
    assert build_neck([chain, Halved([4] * 4)], TINY_SPECS).out_specs(TINY_SPECS)[0].channels == 2


class NoSpecs(nn.Module):
    in_channels = (4,)

    def forward(self, inputs: Any) -> Any:
        return inputs


class NoForward(nn.Module):
    def out_specs(self, in_specs: Any) -> Any:
        return in_specs


@pytest.mark.parametrize(
    ("neck", "message"),
    [
        (
            NoSpecs(),
            "NoSpecs is not a neck: it lacks a method out_specs(in_specs) that returns a tuple of",
        ),
        (NoForward(), "lacks an attribute in_channels and a method forward(inputs) that returns a tuple of maps; see"),
        (nn.Conv2d(3, 3, 1), "Conv2d is not a neck: it lacks a method out_specs"),
    ],
)
def test_a_module_that_does_not_conform_is_told_what_is_missing(neck: nn.Module, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        build_neck(neck, TINY_SPECS)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (NoSpecs, TypeError, "lacks a constructor argument in_channels and a method out_specs"),
        (dict, TypeError, "dict is not a neck: it must be a subclass of torch.nn.Module"),
        (type("FPN", (Halved,), {}), ValueError, "neck name 'FPN' is taken by fpn_plugins.necks.fpn.FPN; rename"),
    ],
)
def test_a_class_that_cannot_be_registered_is_told_why(kind: type, error: type[Exception], message: str) -> None:
    before = dict(NECKS)
    with pytest.raises(error, match=re.escape(message)):
        register_neck(kind)
    assert before == NECKS and NECKS["FPN"] is FPN


@pytest.mark.parametrize("neck", ["FPN", 3, {}, [], NeckChain()])
def test_anything_else_is_a_type_error(neck: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a neck, a mapping such as \{\"type\": \"FPN\"\}, or a list of these"):
        build_neck(neck, TINY_SPECS)


@pytest.mark.parametrize("name", ["FPM", None])
def test_an_unknown_type_lists_the_choices(name: Any) -> None:
    with pytest.raises(ValueError, match=r"neck type=.* is unknown; choose one of \['BFP', .*register_neck"):
        build_neck({"type": name}, TINY_SPECS)


def test_names_that_were_removed_name_a_remedy() -> None:
    with pytest.raises(ImportError, match="fpn_plugins.necks.FPNLevel was removed; build FPN on a single map"):
        from fpn_plugins.necks import FPNLevel  # noqa: F401
