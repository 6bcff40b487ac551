"""Lower bound of a pass's time: what its products and its compulsory traffic take at the device's measured speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

REPEATS = 5
# sides of a square product, and bytes of a copy: on a GPU, and for a dry run
LARGE, SMALL = (8192, 1 << 30), (256, 1 << 20)


class Work(NamedTuple):
    """Work of a pass: floating point operations, and bytes of weights, inputs and outputs, each moved once."""

    flops: float
    bytes: float


class Speed(NamedTuple):
    """Measured speed of a device in one precision: operations and bytes per second."""

    flops: float
    bytes: float

    def least_seconds(self, work: Work) -> float:
        """Time that no implementation of the same work goes below."""
        return max(work.flops / self.flops, work.bytes / self.bytes)


def count(job: Callable[[], object], tensors: Iterable[Tensor]) -> Work:
    """Count the operations of a job (matrix products, convolutions, attention) and the bytes of some tensors."""
    with FlopCounterMode(display=False) as counter:
        job()
    return Work(counter.get_total_flops(), sum(x.numel() * x.element_size() for x in tensors))


@cache
def speed(dtype: torch.dtype, device: str, tf32: bool) -> Speed:
    """Measure the speed of square products and of copies; ``tf32`` only tells the cases of float32 apart."""
    side, size = SMALL if device == "cpu" else LARGE
    a = torch.ones(side, side, device=device, dtype=dtype)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    products = _best(lambda: a @ a, device)
    copies = _best(lambda: target.copy_(source), device)
    return Speed(2 * side**3 / products, 2 * size / copies)


def _best(job: Callable[[], object], device: str) -> float:
    from gpu_measure import timed

    job()
    return min(timed(job, device) for _ in range(REPEATS))
