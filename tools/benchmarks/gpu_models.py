"""Whole backbones and necks on a device: ours, eager and compiled, against the installed toolboxes' own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bench_models import (
    NECK_KINDS,
    build_ours,
    build_peer,
    largest_difference,
    make_inputs,
    maps_of,
    peers_of,
    perturb,
    prepare_pass,
    weights_of,
)
from gpu_measure import MODES, Bench, Rows, build_on, describe, set_precision
from neck_cases import PACKAGES
from torch import nn

import fpn_plugins

OURS, COMPILED = "ours", "ours compiled"
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
    _add_differences(rows, name, nets, inputs)
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


def _add_differences(rows: Rows, name: str, nets: dict[str, nn.Module], inputs: Any) -> None:
    """Add the difference of our float32 maps from each peer's, with the peer's weights."""
    set_precision("float32")
    for who in [who for who in nets if who != OURS]:
        nets[OURS].load_state_dict(weights_of(nets[who]))
        for net in nets.values():
            net.eval()
        with torch.no_grad():
            found, expected = (maps_of(nets[one], inputs) for one in (OURS, who))
        rows.add(model=name, who=who, difference=largest_difference(found, expected))
