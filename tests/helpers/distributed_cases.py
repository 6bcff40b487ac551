"""Run in each of two connected processes by ``tests/contracts/test_distributed.py``, which starts them once for all."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from benchmarks.distributed import STEPS, SWIN, VIT, Case, Row, train, train_cases
from precision import assert_near_maps, assert_same_gradients
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from fpn_plugins import FeatureSpec, Pyramid, Swin, build_neck


class Apart(nn.Module):
    """Backbone and neck that know nothing of each other, as in MMDetection's detectors."""

    def __init__(self, backbone: Any, **neck: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = build_neck({"type": "FPN", "out_channels": 8, **neck}, backbone.feature_specs)

    def forward(self, x: Tensor) -> Any:
        return self.neck(self.backbone(x))


class Plain(nn.Module):
    """A user's backbone without anything of ours; its maps have no layers of their own."""

    feature_specs = (FeatureSpec(4, 8), FeatureSpec(6, 16))

    def __init__(self, normed: bool) -> None:
        super().__init__()
        self.stem, self.stage = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 6, 2, 2)
        self.norm = nn.BatchNorm2d(4) if normed else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.norm(x), self.stage(x)


def swin() -> Swin:
    return Swin(**SWIN)


def frozen() -> nn.Module:
    """A Swin whose unread norm needs no gradient."""
    return Apart(Swin(**SWIN, frozen_stages=1), in_indices=(1, 2, 3))


def with_lora() -> nn.Module:
    """A ViT of which only the adapters train, and its pyramid."""
    neck = {"type": "SimpleFeaturePyramid", "out_channels": 8}
    return Pyramid({"type": "ViT", **VIT, "lora": {"rank": 2}}, neck)


# name -> (model, options of DistributedDataParallel, whether it trains)
APART: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], bool]] = {
    "unread norm": (lambda: Apart(swin(), in_indices=(1, 2, 3)), {}, False),
    "unread stage": (lambda: Apart(swin(), in_indices=(0, 1, 2)), {}, False),
    "another's unread norm": (lambda: Apart(Plain(normed=True), in_indices=(1,)), {}, False),
    "another's in a Pyramid": (
        lambda: Pyramid(Plain(normed=True), {"type": "FPN", "out_channels": 8, "in_indices": (1,)}),
        {},
        False,
    ),
    "unread level": (
        lambda: Pyramid(swin(), {"type": "FPN", "out_channels": 8}, out_positions=[0, 1]),
        {},
        False,
    ),
    "unread map without a norm": (lambda: Apart(Plain(normed=False), in_indices=(1,)), {}, True),
    "frozen norm": (frozen, {}, True),
    "told to look for them": (
        lambda: Apart(swin(), in_indices=(1, 2, 3)),
        {"find_unused_parameters": True},
        True,
    ),
    **({"LoRA": (with_lora, {}, True)} if find_spec("peft") else {}),
    "static graph": (lambda: Apart(swin(), in_indices=(1, 2, 3)), {"static_graph": True}, True),
}

# pyramids that are compiled in place: name -> arguments of `Pyramid`, of its neck, and of DistributedDataParallel
COMPILED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "compiled": ({}, {}, {}),
    "compiled, checkpointing": ({}, {"gradient_checkpointing": True}, {}),
    "compiled, bfloat16": ({"autocast": "bfloat16"}, {}, {}),
    "compiled, static graph": ({}, {"gradient_checkpointing": True}, {"static_graph": True}),
}


def train_compiled(rank: int, name: str) -> str:
    """Compare gradients over two processes, compiled, with one process's, eager, in each step; return what differs.

    The gradients fill several buckets, at which PyTorch would split the graph of each step.
    """
    arguments, neck, options = COMPILED[name]
    neck = {"type": "FPN", "out_channels": 256, **neck}
    dtype = torch.float32 if "autocast" in arguments else torch.float64
    backend = CompileCounterWithBackend("aot_eager")  # as the default backend, without its compiler
    compiled = Pyramid(Plain(normed=False), neck, **arguments, compile={"backend": backend}).train().to(dtype)
    eager = Pyramid(Plain(normed=False), neck, **arguments).train().to(dtype)
    eager.load_state_dict(compiled.state_dict())
    ddp = DistributedDataParallel(compiled, bucket_cap_mb=1, **options)
    for sizes in STEPS:
        images = [torch.randn(batch, 3, *size, dtype=dtype) for batch, *size in sizes]  # of both processes
        for model, mine in ((ddp, images[rank : rank + 1]), (eager, images)):
            model.zero_grad()
            sum(y.square().mean() / len(mine) for x in mine for y in model(x)).backward()  # type: ignore[union-attr]
        found, expected = ([p.grad for p in model.parameters()] for model in (compiled, eager))
        if dtype == torch.float64:
            assert_same_gradients(found, expected)
        else:  # few digits: single values scatter
            assert_near_maps(*(torch.cat([g.flatten() for g in grads]) for grads in (found, expected)), 0.02)
    # a graph of the first size, and one of dynamic sizes
    return "" if backend.frame_count == 2 else f"{backend.frame_count} graphs"


def everything(rank: int, pairs: list[Case]) -> tuple[list[Row], dict[str, str]]:
    """Train all pairs, and the cases of `APART` and `COMPILED`; return rows, and the error or ``""`` of each case."""
    errors = {}
    for name in COMPILED:
        torch.manual_seed(0)
        try:
            errors[name] = train_compiled(rank, name)
        except (AssertionError, RuntimeError) as error:
            errors[name] = f"{type(error).__name__}: {error}"
    for name, (build, options, _) in APART.items():
        torch.manual_seed(0)
        try:
            errors[name] = train(rank, build(), **options)
        except (ValueError, RuntimeError) as error:
            errors[name] = f"{type(error).__name__}: {error}"
    return train_cases(rank, pairs), errors
