"""Record work as CUDA graphs, whose replay needs no Python; without a GPU, a replay runs the work again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

GRAPH = "CUDA graph"  # part of the names of forms that replay one
WARM_UP = 3  # runs on a side stream before recording, as PyTorch asks for


def record(work: Callable[[], Any], on_gpu: bool) -> tuple[Callable[[], None], Any]:
    """Record ``work``; return a function that repeats it, and its outputs, which each repetition overwrites.

    Args:
        work: reads and writes the same tensors in every run, and does not wait for the GPU.
        on_gpu: whether to record a CUDA graph.
    """
    if not on_gpu:
        outputs = work()
        return lambda: _overwrite(outputs, work()), outputs
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work()
    return graph.replay, outputs


def _overwrite(outputs: Any, new: Any) -> None:
    for old, value in zip(_tensors(outputs), _tensors(new), strict=True):
        old.copy_(value)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


class Replay:
    """Job that records another at the first call, and repeats it from then on.

    Args:
        job: pass over a model with fixed inputs.
        on_gpu: see `record`.
    """

    def __init__(self, job: Callable[[], object], on_gpu: bool) -> None:
        self.job, self.on_gpu = job, on_gpu
        self.replay: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.replay is None:
            self.replay, _ = record(self.job, self.on_gpu)
        self.replay()


class _Recorded(NamedTuple):
    x: Tensor
    replay: Callable[[], None]
    maps: Any


class Graphed(nn.Module):
    """Backbone of a detector whose inference is one graph per size and precision; it has the module's attributes.

    The maps of a call are overwritten by the next one of the same size. In training the module itself runs.

    Args:
        module: maps images ``B 3 H W`` to maps.
        on_gpu: see `record`.
    """

    def __init__(self, module: nn.Module, on_gpu: bool) -> None:
        super().__init__()
        self.module, self.on_gpu = module, on_gpu
        self.recorded: dict[Any, _Recorded] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def forward(self, x: Tensor) -> Any:
        """Copy the images to the recorded place and repeat the graph."""
        if self.training or torch.is_grad_enabled():
            return self.module(x)
        device = x.device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        key = x.shape, x.dtype, x.stride(), enabled, dtype
        if key not in self.recorded:
            fixed = x.clone()
            # casts of weights that the outer context keeps would not belong to the graph
            with torch.autocast(device, dtype, enabled=enabled, cache_enabled=False):
                self.recorded[key] = _Recorded(fixed, *record(lambda: self.module(fixed), self.on_gpu))
        found = self.recorded[key]
        found.x.copy_(x)
        found.replay()
        return found.maps
