"""Time and memory of modules against each other."""

from __future__ import annotations

import pytest
import torch

from fpn_plugins.analysis.latency import (
    growth_exponent,
    hardware,
    interleaved_seconds,
    median_ratio,
    peak_extra_bytes,
)


def test_jobs_take_turns_after_warming_up():
    calls: list[str] = []
    seconds = interleaved_seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    with pytest.raises(ValueError, match="repeats=0"):
        interleaved_seconds({}, 0)


def test_ratio_is_of_neighbouring_runs():
    """A machine that slows down tenfold changes nothing."""
    assert median_ratio([1, 10, 100], [2, 20, 200]) == 0.5


def test_peak_is_what_is_held_at_one_time():
    kept = torch.ones(1 << 20)

    def job() -> None:
        first = kept * 2  # 4 MiB
        second = first + 1  # 8 MiB together
        del first
        third = second[: 1 << 19] * 3  # 6 MiB together
        del second, third

    assert 8 << 20 <= peak_extra_bytes(job) < (8 << 20) + 1000  # and the numbers 2, 1 and 3
    assert peak_extra_bytes(lambda: None) == 0


def test_growth_exponent_is_the_power():
    assert growth_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_hardware_is_named():
    assert set(hardware()) == {"processor", "threads", "torch"} and hardware()["processor"]
