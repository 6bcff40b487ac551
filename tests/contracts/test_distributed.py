"""Distributed training of every backbone with every neck, over gloo on two processes that are started once."""

from __future__ import annotations

import pytest
from benchmarks.distributed import TINY, Case, Row, cases, on_two_processes
from distributed_cases import APART, COMPILED, everything

from fpn_plugins import BACKBONES

pytestmark = pytest.mark.timm


@pytest.fixture(scope="module")
def results() -> tuple[list[Case], list[tuple[list[Row], dict[str, str]]]]:
    """The pairs, and what each process found."""
    pairs = cases(quick=True)
    return pairs, [([Row(*row) for row in rows], errors) for rows, errors in on_two_processes(everything, pairs)]


def test_every_backbone_has_a_case() -> None:
    assert set(TINY) == set(BACKBONES)


def test_every_pair_trains(results: tuple[list[Case], list[tuple[list[Row], dict[str, str]]]]) -> None:
    """Two steps, the second one with other images on each process; every parameter has a gradient in each."""
    pairs, found = results
    assert {case.backbone for case in pairs} == set(BACKBONES) and len({case.maps for case in pairs}) == 5
    for rows, _ in found:
        failed = {case[:3]: row.error for case, row in zip(pairs, rows, strict=True) if row.error}
        assert failed == {}


@pytest.mark.parametrize("name", APART)
def test_parameters_without_a_gradient_are_named_in_the_first_step(
    name: str, results: tuple[list[Case], list[tuple[list[Row], dict[str, str]]]]
) -> None:
    """Where backbone and neck do not know each other; nothing is refused that PyTorch trains."""
    *_, trains = APART[name]
    for _, errors in results[1]:
        if trains:
            assert errors[name] == ""
        else:
            assert errors[name].startswith("ValueError: ") and "got no gradient in the first step: " in errors[name]
            assert "out_indices" in errors[name] and "find_unused_parameters=True" in errors[name]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_pyramids_have_the_gradients_of_one_process(
    name: str, results: tuple[list[Case], list[tuple[list[Row], dict[str, str]]]]
) -> None:
    """Two graphs serve both sizes, whatever the buckets of gradients."""
    assert [errors[name] for _, errors in results[1]] == ["", ""]


def test_the_message_names_the_parameters(
    results: tuple[list[Case], list[tuple[list[Row], dict[str, str]]]],
) -> None:
    for _, errors in results[1]:
        assert (
            "2 parameters got no gradient in the first step: backbone.norm0.weight, backbone.norm0.bias."
            in (errors["unread norm"])
        )
        assert "backbone.layers.3.blocks.0.norm1.weight" in errors["unread stage"]
        assert ", ... (" in errors["unread stage"]
        assert "neck.output_convs.2.conv.weight" in errors["unread level"]
