"""Measure jobs for `gpu.py`: times by CUDA events, peaks of the caching allocator, rows saved as they are measured."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_graphs import GRAPH
from gpu_roofline import Speed, Work, speed
from torch import nn

from fpn_plugins.files import write_atomically

Job = Callable[[], object]
# autocast dtype; TF32 is float32 with the shorter mantissa of tensor cores
PRECISIONS: dict[str, torch.dtype | None] = {
    "float32": None,
    "tf32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MODES = {"inference": False, "training": True}
WARM_UP, LEAST_ROUNDS, MOST_ROUNDS = 2, 3, 60


def set_precision(name: str) -> torch.dtype | None:
    """Allow TF32 in float32 products only for ``"tf32"``; return the autocast dtype."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return PRECISIONS[name]


def timed(job: Job, device: str) -> float:
    """Time one run in seconds: by events on a GPU, by the clock on a CPU."""
    if device != "cuda":
        start = time.perf_counter()
        job()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    job()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def build_on(device: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Build a model on the device, where drawing its weights takes a fraction of the time, if its code allows that."""
    try:
        with torch.device(device):
            return make().to(device)
    except (RuntimeError, TypeError):
        return make().to(device)


class Rows:
    """Rows of one section; each is printed, and the JSON file holds all rows so far."""

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self.file, self.about = file, about
        self.rows: list[dict[str, Any]] = []
        self.start = time.perf_counter()
        file.parent.mkdir(parents=True, exist_ok=True)

    def add(self, **row: Any) -> None:
        """Add a row, print it, and write the file."""
        self.rows.append(row)
        text = " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
        )
        print(f"[{time.perf_counter() - self.start:6.1f}]", text, flush=True)
        with write_atomically(self.file) as temporary:
            temporary.write_text(json.dumps({**self.about, "rows": self.rows}, indent=1) + "\n")

    def errors(self) -> int:
        """Number of rows with an error."""
        return sum("error" in row for row in self.rows)


class Bench:
    """Measure times and memory of jobs on a device.

    Args:
        device: ``"cuda"`` or ``"cpu"``; memory is measured only on ``"cuda"``.
        tiny: whether to use small shapes, to try the program.
        precisions: keys of `PRECISIONS`.
        budget: seconds of runs per job.
        compiled: whether to measure our modules under `torch.compile` too, in the first precision.
        full: whether to measure all cases; otherwise the sections leave out what takes long and says less.
    """

    def __init__(
        self, device: str, tiny: bool, precisions: list[str], budget: float, compiled: bool, full: bool = True
    ) -> None:
        self.device, self.tiny, self.precisions, self.budget, self.compiled = device, tiny, precisions, budget, compiled
        self.full = full
        # a dry run only has to show that a model is traced
        self.backend = "aot_eager" if tiny else "inductor"

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def compiles(self, precision: str) -> bool:
        """Whether to measure compiled code too: only in the first precision, as it takes half a minute per model."""
        return self.compiled and precision == self.precisions[0]

    def compiles_mode(self, precision: str, training: bool) -> bool:
        """Whether to measure compiled passes of a mode: training, which compiles twice as long, only in full."""
        return self.compiles(precision) and (self.full or not training)

    def seconds(self, job: Job) -> float:
        """Time one run."""
        return timed(job, self.device)

    def speed(self, precision: str) -> Speed:
        """Measure the device's speed in a precision."""
        return speed(set_precision(precision) or torch.float32, self.device, precision == "tf32")

    def peak(self, job: Job) -> int:
        """Most bytes that a run allocates beyond those in use; only on a GPU."""
        self.free()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def free(self) -> None:
        """Release memory that nothing refers to."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def reset(self) -> None:
        """Release memory and forget compiled code, of which PyTorch keeps only a few variants per function."""
        torch.compiler.reset()
        self.free()

    def compare(self, rows: Rows, jobs: Mapping[str, Job], work: Work | None = None, **what: Any) -> None:
        """Add median times of jobs run in turn, and their peaks; a job that fails is a row with its error.

        Args:
            rows: receives a row per job.
            jobs: passes by name; those of a `GRAPH` have no peak, as their memory is reserved before they run.
            work: adds the share of the time that is the lower bound of this work.
            what: describes all rows; has ``precision`` if there is ``work``.
        """
        peaks = self._warm_up(rows, jobs, what)
        if not peaks:
            return
        first = sum(self.seconds(jobs[who]) for who in peaks)
        least_rounds = 1 if self.tiny else LEAST_ROUNDS
        rounds = min(max(int(self.budget * len(peaks) / first), least_rounds), MOST_ROUNDS)
        seconds: dict[str, list[float]] = {who: [] for who in peaks}
        for _ in range(rounds):
            for who, runs in seconds.items():
                runs.append(self.seconds(jobs[who]))
        least = None if work is None else self.speed(what["precision"]).least_seconds(work)
        for who, runs in seconds.items():
            peak, median = peaks[who], statistics.median(runs)
            memory = {} if peak is None else {"mib": peak / 2**20}
            share = {} if least is None else {"roofline": least / median}
            rows.add(**what, who=who, ms=1e3 * median, **memory, **share, rounds=rounds)

    def _warm_up(self, rows: Rows, jobs: Mapping[str, Job], what: Mapping[str, Any]) -> dict[str, int | None]:
        """Run each job; return the peaks of those that work, and add rows with the errors of the others."""
        peaks: dict[str, int | None] = {}
        for who, job in jobs.items():
            try:
                for _ in range(1 if self.tiny else WARM_UP):
                    job()
                peaks[who] = self.peak(job) if self.on_gpu and GRAPH not in who else None
            except Exception as error:  # an unsupported kernel, or out of memory
                rows.add(**what, who=who, error=describe(error))
                self.free()
        return peaks


def describe(error: Exception) -> str:
    """Beginning of an error message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
