"""Measured peak memory and time of a network, in a process of its own: what ran before leaves no trace in it."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .latency import Job, peak_extra_bytes, processor

MODES = ("inference", "training")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(
    build: Callable[..., nn.Module],
    arguments: tuple[Any, ...],
    image_size: tuple[int, int],
    mode: str = "inference",
    batch_size: int = 1,
    repeats: int = 1,
    device: str | None = None,
) -> dict[str, Any]:
    """Peak memory of one pass above that of the idle network, and the time of a pass, measured in a fresh process.

    Args:
        build: makes the network, images in, maps out; a function that a new process can import.
        arguments: of ``build``.
        image_size: height and width in pixels.
        mode: ``"inference"``, or ``"training"``: forward and backward in training mode, gradients included.
        batch_size: number of images.
        repeats: timed passes, after the first one, whose memory is measured; the median counts.
        device: ``"cpu"`` (Linux only: the highest resident size) or ``"cuda"`` (the caching allocator's highest
            allocation); ``None`` is ``"cuda"`` where there is one.

    Returns:
        ``peak_bytes``, ``seconds``, ``device`` (``"cpu"``, ``"cuda"``) and ``hardware``.

    Raises:
        ValueError: unknown mode or device, or a CPU measurement outside of Linux.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if mode not in MODES or device not in ("cpu", "cuda"):
        raise ValueError(f"mode={mode!r}, device={device!r}: choose mode of {MODES} and device of ('cpu', 'cuda')")
    if device == "cpu" and not CLEAR.exists():
        raise ValueError(f"device='cpu' reads {STATUS}, which only Linux has; use device='cuda'")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (build, arguments, image_size, mode, batch_size, repeats, device))


def fresh_process_peaks(prepare: Callable[..., Job], *arguments: Any) -> dict[str, int]:
    """Most memory that a job needs beyond what there was before it, on the CPU, each call in a process of its own.

    Args:
        prepare: makes the job, with all that is not to be counted; a function that a new process can import.
        arguments: of ``prepare``.

    Returns:
        Bytes: ``"tensors"``, counted at PyTorch's allocator (see `peak_extra_bytes`), and on Linux ``"resident"``, by
        which the process grew in its first run, memory of libraries such as oneDNN included.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # processes are copies of one that has imported PyTorch and done nothing
    with context.Pool(1) as pool:
        return pool.apply(_peaks, (prepare, arguments, torch.get_num_threads()))


def _peaks(prepare: Callable[..., Job], arguments: tuple[Any, ...], threads: int) -> dict[str, int]:
    """Runs in the fresh process."""
    torch.set_num_threads(threads)
    job = prepare(*arguments)
    if not CLEAR.exists():
        return {"tensors": peak_extra_bytes(job)}
    before = _reset_peak("cpu")
    job()
    return {"resident": _peak("cpu") - before, "tensors": peak_extra_bytes(job)}


def hardware(device: str) -> str:
    """Name of the GPU, or of the processor and the number of threads that PyTorch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


def _measure(
    build: Callable[..., nn.Module],
    arguments: tuple[Any, ...],
    image_size: tuple[int, int],
    mode: str,
    batch_size: int,
    repeats: int,
    device: str,
) -> dict[str, Any]:
    """Runs in the fresh process."""
    torch.manual_seed(0)
    model = build(*arguments).to(device).train(mode == "training")
    # libraries load, gradients get their memory; two images, as batch norms refuse to train on a single cell
    _run(model, torch.zeros(2, 3, 64, 64, device=device), mode)
    images = torch.zeros(batch_size, 3, *image_size, device=device)
    before = _reset_peak(device)
    _run(model, images, mode)
    peak = _peak(device) - before
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _run(model, images, mode)
        seconds.append(time.perf_counter() - start)
    return {
        "peak_bytes": peak,
        "seconds": statistics.median(seconds) if seconds else None,
        "device": device,
        "hardware": hardware(device),
    }


def _run(model: nn.Module, images: Tensor, mode: str) -> None:
    with torch.set_grad_enabled(mode == "training"):
        maps = model(images)
        if mode == "training":
            sum(x.float().mean() for x in maps).backward()
    if images.is_cuda:
        torch.cuda.synchronize()


def _reset_peak(device: str) -> int:
    """Forget the peak so far; returns the bytes in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    CLEAR.write_text("5")
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    """Bytes of a field that the kernel states in kB."""
    found = re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text())
    if found is None:
        raise RuntimeError(f"{STATUS} has no {field}")
    return 1024 * int(found[1])
