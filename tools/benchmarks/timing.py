"""Time and peak memory of modules that compute the same, measured against each other."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from fpn_plugins.analysis.peak_memory import CLEAR, peak, reset_peak

Job = Callable[[], object]
PROCESSOR, ELAPSED = "processor", "elapsed"  # kinds of time


def processor_seconds() -> float:
    """Return the processor time of this process and of the programs that it has called, such as compilers."""
    called = os.times()
    return time.process_time() + called.children_user + called.children_system


def choose_clock() -> tuple[str, Callable[[], float]]:
    """Choose the processor's time for one thread, which other programs change little, and elapsed time for more."""
    return (PROCESSOR, processor_seconds) if torch.get_num_threads() == 1 else (ELAPSED, time.perf_counter)


def interleaved_seconds(
    jobs: Mapping[str, Job], repeats: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time jobs in turn, so that a change in the machine's speed affects all of them.

    Args:
        jobs: what to run, by name; on an accelerator a job has to synchronize before it returns.
        repeats: timed rounds; compare their medians (`median_ratio`).
        warm_up: untimed rounds before them.
        clock: time in seconds; on a processor that other programs share, ``time.process_time`` of a single thread
            leaves out the time that they take.

    Returns:
        ``repeats`` times in seconds per job, in order of the rounds.

    Raises:
        ValueError: ``repeats`` below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(-warm_up, repeats):
        for name, job in jobs.items():
            start = clock()
            job()
            if round_ >= 0:
                seconds[name].append(clock() - start)
    return seconds


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of neighboring runs, which a slow change in the machine's speed does not shift."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of ``log(values)`` over ``log(sizes)`` by least squares: 1 is linear growth, 2 quadratic."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def peak_extra_bytes(job: Job) -> int:
    """Measure the most bytes of CPU tensors that ``job`` holds at one time beyond those that existed before.

    PyTorch's profiler counts at the allocator: every tensor and kernel workspace that PyTorch allocates, to the byte,
    whatever ran before. Allocations by libraries (MKL, oneDNN) are not counted.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        job()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(os.fspath(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    changes = [event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["ts"])]
    return max(accumulate(changes), default=0)


def fresh_process_peaks(prepare: Callable[..., Job], *arguments: Any) -> dict[str, int]:
    """Measure the most memory that a job needs on the CPU, in a process of its own.

    Args:
        prepare: builds the job and everything that is not to be counted; a function that a new process can import.
        arguments: of ``prepare``.

    Returns:
        Bytes: ``"tensors"``, counted at PyTorch's allocator (see `peak_extra_bytes`), and on Linux ``"resident"``, the
        growth of the process in its first run, including memory of libraries such as oneDNN.
    """
    context = multiprocessing.get_context("forkserver")
    # processes are copies of one that has imported PyTorch and done nothing else
    context.set_forkserver_preload([reset_peak.__module__])
    with context.Pool(1) as pool:
        return pool.apply(_peaks, (prepare, arguments, torch.get_num_threads()))


def _peaks(prepare: Callable[..., Job], arguments: tuple[Any, ...], threads: int) -> dict[str, int]:
    """Run in the fresh process."""
    torch.set_num_threads(threads)
    job = prepare(*arguments)
    if not CLEAR.exists():
        return {"tensors": peak_extra_bytes(job)}
    before = reset_peak("cpu")
    job()
    return {"resident": peak("cpu") - before, "tensors": peak_extra_bytes(job)}
