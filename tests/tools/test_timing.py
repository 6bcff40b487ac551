"""Time and peak memory of jobs measured against each other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest
import torch


@pytest.fixture
def timing(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/timing")


def test_jobs_take_turns_after_warming_up(timing: ModuleType):
    calls: list[str] = []
    seconds = timing.interleaved_seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    with pytest.raises(ValueError, match="repeats=0"):
        timing.interleaved_seconds({}, 0)


def test_ratio_compares_neighboring_runs(timing: ModuleType):
    """A tenfold slowdown of the machine does not change the ratio."""
    assert timing.median_ratio([1, 10, 100], [2, 20, 200]) == 0.5


def test_peak_counts_tensors_held_at_one_time(timing: ModuleType):
    kept = torch.ones(1 << 20)

    def job() -> None:
        first = kept * 2  # 4 MiB
        second = first + 1  # 8 MiB together
        del first
        third = second[: 1 << 19] * 3  # 6 MiB together
        del second, third

    assert 8 << 20 <= timing.peak_extra_bytes(job) < (8 << 20) + 1000  # and the numbers 2, 1 and 3
    assert timing.peak_extra_bytes(lambda: None) == 0


def test_growth_exponent_is_the_power(timing: ModuleType):
    assert timing.growth_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_a_job_in_a_fresh_process_needs_what_it_allocates(timing: ModuleType):
    peaks = timing.fresh_process_peaks(partial, torch.ones, 4_000_000)
    assert 16_000_000 <= peaks["tensors"] < 17_000_000
    if sys.platform == "linux":
        assert 15_000_000 < peaks["resident"] < 64_000_000


def test_the_machine_is_named(script: Callable[[str], ModuleType]):
    machine = script("benchmarks/bench_report").machine()
    assert set(machine) == {"processor", "threads", "torch"} and machine["processor"]
