"""Whole backbones and necks on a device: ours, eager and compiled, against the installed toolboxes' own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench_models import (
    NECK_KINDS,
    OURS,
    build_ours,
    build_peer,
    make_inputs,
    peer_differences,
    peers_of,
    perturb,
    prepare_pass,
)
from gpu_measure import MODES, Bench, Rows, build_on, describe, set_precision
from neck_cases import PACKAGES
from torch import nn

import fpn_plugins

COMPILED = "ours compiled"
# height, width and images of a batch
SHAPES = {"swin_t": (800, 1344, 4), "bifpn": (768, 1280, 4)}
SQUARE, WIDE, TINY = (1024, 1024, 2), (800, 1344, 4), (128, 256, 2)


def compare_models(bench: Bench, rows: Rows, names: Sequence[str]) -> None:
    """Measure models by name, see `bench_models.NAMES`."""
    for name in names:
        _compare_model(bench, rows, name)
        bench.free()


def _compare_model(bench: Bench, rows: Rows, name: str) -> None:
    *size, batch = TINY if bench.tiny else SHAPES.get(name, WIDE if name in NECK_KINDS else SQUARE)
    nets = _build_all(bench, rows, name, tuple(size))
    if OURS not in nets:
        return
    inputs = make_inputs(name, tuple(size), batch, bench.device)
    set_precision("float32")
    for who, difference in peer_differences(nets, inputs).items():
        rows.add(model=name, who=who, difference=difference)
    for precision in bench.precisions:
        dtype = set_precision(precision)
        place = {"model": name, "size": size, "batch": batch, "precision": precision}
        if bench.compiles(precision):
            nets[COMPILED] = copy.deepcopy(nets[OURS])
            nets[COMPILED].compile(backend=bench.backend)
        _compare_passes(bench, rows, nets, inputs, dtype, place)
        if name in NECK_KINDS and dtype is not None:  # layout in which tensor cores convolve
            layout = {"memory_format": torch.channels_last}
            _compare_passes(
                bench,
                rows,
                {who: net.to(**layout) for who, net in nets.items()},
                tuple(x.contiguous(**layout) for x in inputs),
                dtype,
                {**place, "layout": "channels_last"},
            )
            nets = {who: net.to(memory_format=torch.contiguous_format) for who, net in nets.items()}
        nets.pop(COMPILED, None)
        bench.reset()


def _compare_passes(
    bench: Bench, rows: Rows, nets: dict[str, nn.Module], inputs: Any, dtype: torch.dtype | None, place: dict[str, Any]
) -> None:
    for mode, training in MODES.items():
        jobs = {who: prepare_pass(net, inputs, training, dtype) for who, net in nets.items()}
        bench.compare(rows, jobs, **place, mode=mode)


def _build_all(bench: Bench, rows: Rows, name: str, size: tuple[int, int]) -> dict[str, nn.Module]:
    """Build ours and each installed peer; a peer that cannot be built is a row with its error."""
    makers: dict[str, Callable[[], nn.Module]] = {
        who: lambda who=who: perturb(build_peer(name, who, size, bench.tiny))  # type: ignore[misc]
        for who in peers_of(name, PACKAGES)
    }
    makers[OURS] = lambda: build_ours(name, fpn_plugins, size, bench.tiny)
    nets = {}
    for who, make in makers.items():
        try:
            nets[who] = build_on(bench.device, make)
        except Exception as error:  # for example, a toolbox without its compiled operators
            rows.add(model=name, who=who, error=describe(error))
    return nets
