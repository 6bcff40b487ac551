"""Measure the peak memory and time of a network in a fresh process, unaffected by what ran before."""

from __future__ import annotations

import multiprocessing
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    """Measure the peak memory of one pass above the idle network, and the time of a pass, in a fresh process.

    Args:
        build: builds the network (images to maps); a new process must be able to import it.
        arguments: arguments of ``build``.
        image_size: height and width in pixels.
        mode: ``"inference"``, or ``"training"``: forward and backward in training mode, gradients included.
        batch_size: number of images.
        repeats: number of timed passes after the first one, whose memory is measured.
        device: ``"cpu"`` (Linux only: the highest resident size) or ``"cuda"`` (the caching allocator's highest
            allocation); ``None`` is ``"cuda"`` if a GPU is available.

    Returns:
        ``peak_bytes``, ``seconds`` (median; ``None`` without repeats), ``device`` and ``hardware``.

    Raises:
        ValueError: unknown mode or device, or a CPU measurement on another system than Linux.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if mode not in MODES or device not in ("cpu", "cuda"):
        raise ValueError(f"mode={mode!r}, device={device!r}: choose mode of {MODES} and device of ('cpu', 'cuda')")
    if device == "cpu" and not CLEAR.exists():
        raise ValueError(f"device='cpu' reads {STATUS}, which only Linux has; use device='cuda'")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (build, arguments, (batch_size, 3, *image_size), mode, repeats, device))


def hardware(device: str) -> str:
    """Return the name of the GPU, or of the processor with the number of threads that PyTorch uses."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor()}, {thread_count(torch.get_num_threads())}"


def thread_count(number: int | str) -> str:
    """Return a number of threads with its noun; of several measurements, ``number`` lists theirs."""
    return f"{number} thread{'' if str(number) == '1' else 's'}"


def processor() -> str:
    """Return the name of the processor, and the widest instructions that PyTorch uses on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _measure(
    build: Callable[..., nn.Module],
    arguments: tuple[Any, ...],
    shape: Sequence[int],
    mode: str,
    repeats: int,
    device: str,
) -> dict[str, Any]:
    """Measure on images of ``shape``, in the fresh process."""
    torch.manual_seed(0)
    model = build(*arguments).to(device).train(mode == "training")
    # load libraries and allocate gradients; two images, because batch norm cannot train on a single cell
    _run(model, torch.zeros(2, 3, 64, 64, device=device), mode)
    images = torch.zeros(*shape, device=device)
    before = reset_peak(device)
    _run(model, images, mode)
    peak_bytes = peak(device) - before
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        _run(model, images, mode)
        seconds.append(time.perf_counter() - start)
    return {
        "peak_bytes": peak_bytes,
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


def reset_peak(device: str) -> int:
    """Reset the peak and return the bytes in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    CLEAR.write_text("5")
    return _status("VmRSS")


def peak(device: str) -> int:
    """Return the largest number of bytes in use since `reset_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    """Read a field of the process's status in bytes; the kernel writes kB."""
    found = re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text())
    if found is None:
        raise RuntimeError(f"{STATUS} has no {field}")
    return 1024 * int(found[1])
