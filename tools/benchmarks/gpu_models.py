"""Whole backbones and necks on a device: ours, eager and compiled, against the installed toolboxes' own."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from bench_models import (
    NECK_KINDS,
    OURS,
    build_ours,
    build_peer,
    make_inputs,
    maps_of,
    peer_differences,
    peers_of,
    perturb,
    prepare_pass,
)
from conv_floor import record_convs, run_convs
from gpu_graphs import Replay
from gpu_measure import MODES, Bench, Job, Rows, build_on, describe, set_precision
from gpu_roofline import Work, count
from neck_cases import PACKAGES
from torch import nn

import fpn_plugins

COMPILED, GRAPH, COMPILED_GRAPH = "ours compiled", "ours, CUDA graph", "ours compiled, CUDA graph"
FLOOR = "convolutions alone"
# the models whose compiled forms the default run measures
DEFAULT_COMPILED = ("vit_b", "swin_t", "mvit_t", "fpn")
# timm's networks of the same layers; Swin's maps have no norms
TIMM: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "swin_t": (
        "swin_tiny_patch4_window7_224",
        {"features_only": True, "drop_path_rate": 0.0},
        {"embed_dim": 24, "depths": (2, 2, 1, 1)},
    ),
}
# height, width and images of a batch
SHAPES = {"swin_t": (800, 1344, 4), "bifpn": (768, 1280, 4)}
SQUARE, WIDE, TINY = (1024, 1024, 2), (800, 1344, 4), (128, 256, 2)


def compare_models(bench: Bench, rows: Rows, names: Sequence[str]) -> None:
    """Measure models by name, see `bench_models.NAMES`."""
    for name in names:
        try:
            _compare_model(bench, rows, name)
        except Exception as error:  # continue with the others
            rows.add(model=name, error=describe(error))
        bench.reset()


def _compare_model(bench: Bench, rows: Rows, name: str) -> None:
    *size, batch = TINY if bench.tiny else SHAPES.get(name, WIDE if name in NECK_KINDS else SQUARE)
    nets = _build_all(bench, rows, name, tuple(size))
    if OURS not in nets:
        return
    inputs = make_inputs(name, tuple(size), batch, bench.device)
    set_precision("float32")
    same = {who: net for who, net in nets.items() if who != "timm"}
    for who, difference in peer_differences(same, inputs).items():
        rows.add(model=name, who=who, difference=difference)
    for precision in bench.precisions:
        dtype = set_precision(precision)
        place = {"model": name, "size": size, "batch": batch, "precision": precision}
        _compare_passes(bench, rows, nets, inputs, dtype, place)
        if name in NECK_KINDS and dtype is not None and bench.full:  # layout in which tensor cores convolve
            layout = {"memory_format": torch.channels_last}
            last = {who: net.to(**layout) for who, net in nets.items()}
            place["layout"] = "channels_last"
            _compare_passes(bench, rows, last, tuple(x.contiguous(**layout) for x in inputs), dtype, place)
            nets = {who: net.to(memory_format=torch.contiguous_format) for who, net in nets.items()}
        bench.reset()


def _compare_passes(
    bench: Bench, rows: Rows, nets: dict[str, nn.Module], inputs: Any, dtype: torch.dtype | None, place: dict[str, Any]
) -> None:
    """Compare in both modes: the models as they are, ours compiled and as CUDA graphs, and the convolutions alone."""
    name, precision = place["model"], place["precision"]
    compiled = copy.deepcopy(nets[OURS])
    compiled.compile(backend=bench.backend)
    for mode, training in MODES.items():
        make = partial(prepare_pass, inputs=inputs, training=training, dtype=dtype)
        jobs = {who: make(net) for who, net in nets.items()}
        work = _work(nets[OURS], inputs, jobs[OURS], dtype)
        if name in NECK_KINDS:
            jobs[FLOOR] = _floor(nets[OURS], inputs, training, dtype)
        if bench.full or name in DEFAULT_COMPILED:
            jobs[GRAPH] = Replay(make(nets[OURS]), bench.on_gpu)
            if bench.compiles_mode(precision, training):
                jobs[COMPILED] = make(compiled)
                jobs[COMPILED_GRAPH] = Replay(jobs[COMPILED], bench.on_gpu)
        bench.compare(rows, jobs, work, **place, mode=mode)


def _work(net: nn.Module, inputs: Any, job: Job, dtype: torch.dtype | None) -> Work:
    """Count the work of our model, with weights, inputs and maps in the precision of the pass."""
    with torch.no_grad():
        maps = maps_of(net, inputs)
    given = (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    work = count(job, [*net.parameters(), *given, *maps])
    return work if dtype is None else work._replace(bytes=work.bytes / 2)


def _floor(net: nn.Module, inputs: Any, training: bool, dtype: torch.dtype | None) -> Job:
    """Make a job that runs only the convolutions of a neck, each on its own."""
    device = inputs[0].device.type

    def autocast() -> torch.autocast:
        return torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None)

    with autocast():
        calls = record_convs(net, lambda: maps_of(net, inputs))

    def run() -> None:
        with autocast():
            run_convs(calls, training)

    return run


def _build_all(bench: Bench, rows: Rows, name: str, size: tuple[int, int]) -> dict[str, nn.Module]:
    """Build ours and each installed peer; a peer that cannot be built is a row with its error."""
    makers: dict[str, Callable[[], nn.Module]] = {
        who: lambda who=who: perturb(build_peer(name, who, size, bench.tiny))  # type: ignore[misc]
        for who in peers_of(name, PACKAGES)
    }
    if name in TIMM and importlib.util.find_spec("timm"):
        makers["timm"] = lambda: _timm_network(name, size, bench.tiny)
    makers[OURS] = lambda: build_ours(name, fpn_plugins, size, bench.tiny)
    nets = {}
    for who, make in makers.items():
        try:
            nets[who] = build_on(bench.device, make)
        except Exception as error:  # for example, a toolbox without its compiled operators
            rows.add(model=name, who=who, error=describe(error))
    return nets


def _timm_network(name: str, size: tuple[int, int], tiny: bool) -> nn.Module:
    import timm

    kind, arguments, small = TIMM[name]
    return timm.create_model(kind, img_size=size, **arguments, **(small if tiny else {}))
