"""Training of models that are divided between two processes; all cases run in one pair of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from benchmarks.distributed import on_two_processes
from sharding_cases import MODELS, everything
from torch import nn
from versions import SHARDS

from fpn_plugins.compat import find_fully_shard
from fpn_plugins.sharding import is_sharded, shard, whole_parameters

pytestmark = [pytest.mark.timm, SHARDS]


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """What each process found."""
    return on_two_processes(everything)


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_as_one(results: list[dict[str, Any]], name: str) -> None:
    """Losses, clipped norms, weights and momentum of three steps, with gradient checkpointing and layer-wise rates."""
    tolerance = 2e-2 if "bfloat16" in name else 2e-5
    for found in (each[name] for each in results):
        assert found["units"] == MODELS[name][2] and found["gradients"]
        for own, expected in (*found["losses"], *found["norms"]):
            assert own == pytest.approx(expected, rel=tolerance)
        assert len({own for own, _ in found["losses"]}) == 3
        assert 0.4 < found["share"] < 0.65
    first, second = (each[name] for each in results)
    assert first["weights"] < 10 * tolerance and first["momentum"] < tolerance and first["metadata"]
    assert second["empty"]


def test_whole_states_resume_bit_for_bit(results: list[dict[str, Any]]) -> None:
    assert all(found["resumes"]["equal"] for found in results)


def test_other_layouts_load(results: list[dict[str, Any]]) -> None:
    assert [found["layouts"] for found in results] == [{"same": True, "blocks": True}] * 2


def test_processes_evaluate_different_numbers_of_images(results: list[dict[str, Any]]) -> None:
    assert [len(found["evaluates"]["differences"]) for found in results] == [4, 2]
    assert max(max(found["evaluates"]["differences"]) for found in results) < 1e-5
    assert all(found["evaluates"]["divided"] for found in results)


def test_an_overflow_anywhere_skips_the_step(results: list[dict[str, Any]]) -> None:
    assert [found["scales"] for found in results] == [{"scale": 512.0, "kept": True}] * 2


def test_scalar_parameters_are_named(results: list[dict[str, Any]]) -> None:
    assert "'scale'" in results[0]["refuses"]["error"] and "without sharding" in results[0]["refuses"]["error"]


def test_one_process_is_told_to_start_several() -> None:
    with pytest.raises(ValueError, match="no process group: start several"):
        shard(nn.Linear(2, 2))


def test_models_that_are_whole_stay_so() -> None:
    model = nn.Linear(2, 2)
    with whole_parameters(model):
        assert not is_sharded(model)


def test_an_older_pytorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", None)
    with pytest.raises(ImportError, match=rf"PyTorch 2\.6 or later, and this is {torch.__version__[:3]}"):
        find_fully_shard()
