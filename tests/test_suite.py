"""The helpers of the tests themselves: seeds, the rule by which maps are compared, and the record of its margins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import margins
import pytest
import seeds
import torch
from precision import DOUBLE, assert_near_maps, assert_same_gradients, assert_same_maps, single

TESTS = Path(__file__).resolve().parent
DRAWS = """
import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

print(torch.rand(1).item())


def test_generators() -> None:
    print("DRAW", torch.rand(1).item(), np.random.rand(), random.random())


@given(st.integers(0, 10**9))
def test_examples(number: int) -> None:
    print("DRAW", number)
"""


@pytest.fixture(autouse=True)
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons that are meant to fail are no margins of the suite."""
    monkeypatch.delenv(margins.VARIABLE, raising=False)


# ------------------------------------------------------------------------------------------------------------- seeds


@pytest.fixture
def draws(tmp_path: Path) -> Callable[[str], Any]:
    """A function that runs a small suite with the conftest of this one under a seed."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_draws.py").write_text(DRAWS)

    def run(seed: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, seeds.VARIABLE: seed, "PYTHONPATH": str(TESTS / "helpers")}
        command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_the_seed_moves_every_generator_and_a_run_can_be_repeated(draws: Callable[[str], Any]) -> None:
    outputs = [draws(seed).stdout for seed in ("0", "1", "1")]
    found = [[line for line in text.splitlines() if "DRAW" in line] for text in outputs]
    assert all(len(lines) > 10 for lines in found), outputs
    assert found[1] == found[2]
    generators = [lines[0].split("DRAW")[1].split() for lines in found]
    assert all(one != other for one, other in zip(generators[0], generators[1], strict=True))
    assert set(found[0][5:]) != set(found[1][5:])  # hypothesis begins with the simplest examples


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "1000001", ""])
def test_an_impossible_seed_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(seeds.VARIABLE, value)
    with pytest.raises(ValueError, match=rf"FPN_PLUGINS_TEST_SEED='{value}' must be a whole number from 0 to 1000000"):
        seeds.base_seed()


def test_an_impossible_seed_is_an_error_of_usage(draws: Callable[[str], Any]) -> None:
    done = draws("x")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: FPN_PLUGINS_TEST_SEED='x' must be" in done.stdout + done.stderr


def test_seeds_of_tests_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for base in (0, 1, 2):
        monkeypatch.setenv(seeds.VARIABLE, str(base))
        assert (seeds.shifted(7) == 7) == (base == 0)
        for number in (0, 7):
            seeds.seed(number)
            drawn = torch.rand(3)
            assert torch.equal(drawn, torch.rand(3, generator=seeds.generator(number)))
            found.add(tuple(drawn.tolist()))
    assert len(found) == 6


# --------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DOUBLE), (torch.float32, single())])
def test_maps_agree_within_the_types_tolerance_of_their_scale(dtype: torch.dtype, tolerance: float) -> None:
    expected = 1000 * torch.randn(2, 3, dtype=dtype)
    step = expected.abs().max() * tolerance
    assert_same_maps([expected + 0.9 * step], (expected,))
    with pytest.raises(AssertionError, match=r"\[0\] differs, in units of"):
        assert_same_maps([expected + 1.2 * step], (expected,))


def test_single_precision_allows_more_for_longer_sums_and_stays_far_below_an_error() -> None:
    assert 1e-6 < single(100) < single(10_000) < 1e-4


@pytest.mark.parametrize(
    ("got", "expected", "message"),
    [
        ([torch.ones(2)], [torch.ones(3)], r"\[0\]: shape \(2,\) instead of \(3,\)"),
        ([torch.ones(2)], [torch.ones(2).double()], r"\[0\]: torch.float32 instead of torch.float64"),
        ([torch.ones(2)] * 2, [torch.ones(2)], "2 tensors instead of 1"),
        ({"p3": torch.ones(2)}, {"p4": torch.ones(2)}, "other keys"),
        ({"p3": torch.ones(2)}, {"p3": None}, "p3: Tensor instead of None"),
        ([None], [torch.ones(2)], r"\[0\]: NoneType instead of a tensor"),
        ([torch.ones(2) * float("nan")], [torch.ones(2)], r"\[0\]"),
        ([torch.ones(2)], [torch.ones(2) * float("nan")], r"\[0\]"),
        ([torch.tensor([1, 2])], [torch.tensor([1, 3])], r"\[0\]"),
        ([torch.tensor([1e-3])], [torch.zeros(1)], r"\[0\]"),
        ([], [], "nothing to compare"),
    ],
)
def test_other_maps_are_refused(got: Any, expected: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_same_maps(got, expected)


def test_equal_maps_can_be_asked_for() -> None:
    x = torch.ones(3, dtype=torch.double)
    assert_same_maps([x, None], [x.clone(), None], tolerance=0)
    with pytest.raises(AssertionError):
        assert_same_maps([x + 1e-15], [x], tolerance=0)


def test_gradients_without_effect_are_rounding_and_others_are_not() -> None:
    expected = [torch.full((3,), 2.0).double(), torch.full((3,), 1e-16).double()]
    assert_same_gradients([expected[0], -expected[1]], expected)
    with pytest.raises(AssertionError):
        assert_same_maps([expected[0], -expected[1]], expected)
    with pytest.raises(AssertionError, match=r"\[1\]"):
        assert_same_gradients([expected[0], expected[1] + 1e-9], expected)
    with pytest.raises(AssertionError, match="every gradient is zero"):
        assert_same_gradients([torch.zeros(2)], [torch.zeros(2)])


def test_near_maps_differ_by_a_share_of_their_norm() -> None:
    expected = torch.randn(1000)
    assert_near_maps([expected.bfloat16()], [expected], tolerance=0.01)
    with pytest.raises(AssertionError, match=r"\[0\]"):
        assert_near_maps([1.02 * expected], [expected], tolerance=0.01)


# ----------------------------------------------------------------------------------------------------------- margins


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns what was recorded since."""
    file = tmp_path / "margins.jsonl"
    monkeypatch.setenv(margins.VARIABLE, str(file))
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


def test_a_comparison_records_how_much_of_its_tolerance_it_used(entries: Callable[[], list[dict[str, Any]]]) -> None:
    compare = margins.recorded(torch.testing._comparison.assert_close)
    one = torch.tensor([1.0, 2.0], dtype=torch.double)
    compare({"p3": [one + 0.25]}, {"p3": [one]}, rtol=0, atol=1)
    compare(one.float(), one.float(), rtol=0, atol=0)
    compare(one + 1e-8, one)  # 1e-7 + 1e-7 * value
    with pytest.raises(AssertionError):
        compare(one + 2, one, rtol=0, atol=1)
    with pytest.raises(AssertionError):
        compare(one * float("nan"), one, rtol=0, atol=1)
    found = entries()
    assert [entry["used"] for entry in found] == pytest.approx([0.25, 0, 0.05, 2, 1e300])
    assert [entry["exact"] for entry in found] == [False, True, False, False, False]
    assert [entry["dtype"] for entry in found] == ["float64", "float32", "float64", "float64", "float64"]
    assert all(
        entry["test"].endswith("::" + test_a_comparison_records_how_much_of_its_tolerance_it_used.__name__)
        for entry in found
    )


def test_names_that_modules_have_imported_are_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.testing.assert_close
    module = types.ModuleType("imported_before")
    module.assert_close = original  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.testing, "assert_close", original)
    changed = {name: m for name, m in sys.modules.items() if getattr(m, "__dict__", {}).get("assert_close") is original}
    for other in changed.values():
        monkeypatch.setattr(other, "assert_close", original)
    margins.install()
    assert torch.testing.assert_close is module.assert_close is not original  # type: ignore[attr-defined]


def test_nothing_is_recorded_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(margins.VARIABLE, raising=False)
    margins.record("float32", 0.5)
