"""Passes of necks to time: of ours, of other packages', or of the bare convolutions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from bench_models import peer_differences, perturb
from conv_floor import record_convs, run_convs
from neck_cases import CASES, OURS, build
from torch import Tensor, nn

from fpn_plugins.analysis import on_meta

FLOOR = "convolutions"
LAST = ", channels_last"
COPIED = ", copied to NCHW"
COMPILED = ", compiled"
OUR_FORMS = (OURS, OURS + LAST, OURS + LAST + COPIED)
MODES = ("inference", "training")


class NeckSetting(NamedTuple):
    """Conditions of a measurement; ``size`` is height and width of the image in pixels."""

    size: tuple[int, int]
    batch: int
    bf16: bool
    backend: str | None = None  # of torch.compile


def map_shapes(kind: str, setting: NeckSetting) -> list[tuple[int, ...]]:
    """Shapes ``B C H W`` of a neck's input maps."""
    sides = [tuple(-(-side // spec.stride) for side in setting.size) for spec in CASES[kind].specs]
    return [(setting.batch, spec.channels, *hw) for spec, hw in zip(CASES[kind].specs, sides, strict=True)]


def output_shapes(kind: str, setting: NeckSetting) -> list[torch.Size]:
    """Shapes of a neck's output maps, from the meta device, so that the process allocates nothing."""
    neck = on_meta(lambda: build(kind, OURS, setting.size))
    return [x.shape for x in neck([torch.empty(shape, device="meta") for shape in map_shapes(kind, setting)])]


def make_maps(kind: str, setting: NeckSetting, channels_last: bool = False) -> list[Tensor]:
    """Draw input maps with random values."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [torch.randn(shape).to(memory_format=layout) for shape in map_shapes(kind, setting)]


def outputs_of(neck: nn.Module, maps: list[Tensor], contiguous: bool) -> list[Tensor]:
    """Run a neck and list its maps, high to low resolution."""
    found = neck(list(maps))  # effdet's appends to its input
    outputs = found.values() if isinstance(found, dict) else found
    return [x.contiguous() if contiguous else x for x in outputs]


def prepare(kind: str, who: str, mode: str, setting: NeckSetting) -> Callable[[], None]:
    """Make the job to time: one forward pass of a neck, or forward and backward in training."""
    torch.manual_seed(0)
    compiled, copied, channels_last = COMPILED in who, COPIED in who, LAST in who
    name = who.split(", ")[0]
    neck = build(kind, OURS if name == FLOOR else name, setting.size).eval()
    if channels_last:
        neck = neck.to(memory_format=torch.channels_last)
    maps = make_maps(kind, setting, channels_last)
    for parameter in neck.parameters():  # gradients exist in every step but the first
        parameter.grad = torch.zeros_like(parameter)
    run: Callable[[], Any]
    layout = torch.channels_last if channels_last and not copied else torch.contiguous_format
    gradients = [torch.randn(shape).to(memory_format=layout) for shape in output_shapes(kind, setting)]
    if name == FLOOR:
        run = partial(
            run_convs, record_convs(neck, partial(_cast, partial(neck, maps), setting.bf16)), mode == "training"
        )
    else:
        neck.train(mode == "training")
        if compiled:  # ours must be one graph
            neck = torch.compile(neck, fullgraph=name == OURS, dynamic=False, backend=setting.backend or "inductor")
        run = partial(_pass, neck, maps, gradients if mode == "training" else None, copied)
    return partial(_cast, run, setting.bf16)


def _pass(neck: nn.Module, maps: list[Tensor], gradients: list[Tensor] | None, contiguous: bool) -> None:
    with torch.set_grad_enabled(gradients is not None):
        outputs = outputs_of(neck, [x.detach().requires_grad_(gradients is not None) for x in maps], contiguous)
    if gradients is not None:
        torch.autograd.backward(outputs, [g.to(x.dtype) for g, x in zip(gradients, outputs, strict=True)])


def _cast(run: Callable[[], Any], bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        run()


def largest_differences(kind: str, setting: NeckSetting) -> dict[str, float]:
    """Difference of our maps from each peer's, with the peer's weights, relative to the largest value."""
    nets = {}
    for who in (OURS, *CASES[kind].installed()):
        torch.manual_seed(0)
        nets[who] = perturb(build(kind, who, setting.size))  # some blocks start as the identity
    return peer_differences(nets, tuple(make_maps(kind, setting)))
