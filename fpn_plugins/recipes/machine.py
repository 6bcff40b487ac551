"""Describe the machine of a training, and measure how long an iteration takes on it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..pyramid import Pyramid

if TYPE_CHECKING:
    from .plan import Recipe

_REFERENCE = (800 * 1333, 0.9)  # pixels, and GB of GPU memory that an image takes at 256 channels
_OVERHEAD = 1.2  # matching, losses, optimizer and running mean, beside forward and backward


@dataclass(frozen=True)
class Machine:
    """Machine of a training.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        cores: number of CPU cores.
        memory: memory of the GPU in GB; 0 without one.
    """

    device: str
    cores: int
    memory: float = 0.0

    @classmethod
    def this(cls) -> Machine:
        """Describe this machine."""
        cores = os.cpu_count() or 1
        if not torch.cuda.is_available():
            return cls("cpu", cores)
        return cls("cuda", cores, torch.cuda.get_device_properties(0).total_memory / 1e9)

    @property
    def workers(self) -> int:
        """Processes that read images."""
        return min(8, max(1, self.cores // 2))

    def batch(self, size: tuple[int, int], channels: int) -> int:
        """Choose a batch size, a power of 2 up to 16, for images of ``size``; 4 on a CPU."""
        if self.device == "cpu":
            return 4
        pixels, of_image = _REFERENCE
        fit = 0.7 * self.memory / (of_image * size[0] * size[1] / pixels * max(0.5, channels / 256))
        return int(2 ** min(4, max(1, math.floor(math.log2(max(fit, 1))))))

    def __str__(self) -> str:
        """Name device and memory."""
        return f"{self.cores} CPU core(s)" if self.device == "cpu" else f"a GPU with {self.memory:.0f} GB"


class StandInHead(nn.Module):
    """Convolutions of a detector's head, with a sum as loss, to measure the time of an iteration.

    Args:
        plan: gives the channels, the depth, and whether regions are classified.
    """

    def __init__(self, plan: Recipe) -> None:
        super().__init__()
        channels, self.regions = plan.channels, 0 if plan.detector == "retinanet" else 128
        depth = 2 * plan.stacked_convs if plan.detector == "retinanet" else 1
        anchors = len(plan.anchors.ratios) * plan.anchors.per_octave
        outputs = anchors * (4 + (len(plan.data.train.categories) if plan.detector == "retinanet" else 1))
        layers = [layer for _ in range(depth) for layer in (_conv(channels, channels), nn.ReLU())]
        self.convs = nn.Sequential(*layers, _conv(channels, outputs))
        self.linear = nn.Linear(49 * channels, 1024)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map the levels ``B C H W`` to a sum."""
        total = torch.stack([self.convs(level).square().mean() for level in maps]).sum()
        if not self.regions:
            return total
        pooled = nn.functional.adaptive_avg_pool2d(maps[0], 7).flatten(1)
        return total + self.linear(pooled.repeat(self.regions, 1)).square().mean()


def seconds_per_iteration(plan: Recipe) -> float:
    """Measure the seconds of a training iteration of backbone, neck and a stand-in for the head, on random images."""
    backbone = {key: value for key, value in plan.backbone.items() if key not in ("checkpoint", "pretrained")}
    model = nn.ModuleList([Pyramid(backbone, dict(plan.neck)), StandInHead(plan)]).to(plan.device).train()
    height, width = (-(-side // 32) * 32 for side in plan.size)
    images = torch.rand(plan.batch, plan.backbone.get("in_chans", 3), height, width, device=plan.device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model[1](model[0](images)).backward()
        if plan.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return _OVERHEAD * min(times[1:])


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)
