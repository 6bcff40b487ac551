"""Time and memory of modules that compute the same, measured against each other in one process."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

Job = Callable[[], object]


def interleaved_seconds(jobs: Mapping[str, Job], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Wall-clock seconds of each job, the jobs taking turns, so that a change of the machine's speed meets all.

    Args:
        jobs: what to run, by name; on an accelerator a job has to synchronise before it returns.
        repeats: timed rounds; compare medians (`median_ratio`).
        warm_up: rounds before them that are not timed.

    Returns:
        ``repeats`` times per job, in order of the rounds.

    Raises:
        ValueError: no round to time.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(-warm_up, repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of neighbouring runs, which a slow change of the machine's speed does not move."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def peak_extra_bytes(job: Job) -> int:
    """Most bytes of tensors on the CPU that ``job`` held at one time beyond what there was before it.

    Counted by PyTorch's profiler at the allocator: every tensor and every workspace of a kernel that PyTorch allocates,
    to the byte, whatever ran before. What libraries (MKL, oneDNN) allocate themselves is not seen.
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


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of ``log(values)`` over ``log(sizes)``, by least squares: 1 is linear growth, 2 quadratic."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def hardware() -> dict[str, Any]:
    """What the figures were measured on: processor, threads, PyTorch."""
    return {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def processor() -> str:
    """Name of the processor, and the widest instructions that PyTorch uses on it, which names leave open."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
