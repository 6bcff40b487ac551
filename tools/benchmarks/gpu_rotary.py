"""Whole ViTs with rotary positions on a device: ours against timm's of the same weights, and Detectron2's ViT."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import torch
from bench_models import OURS, largest_difference, maps_of, prepare_pass
from foundation_vits import Detectron2s, pair
from gpu_graphs import Replay
from gpu_measure import MODES, Bench, Rows, build_on, describe, set_precision
from gpu_models import GRAPH
from gpu_roofline import count
from torch import nn

from fpn_plugins import ViT

WINDOWS = {"window_size": 16, "global_block_indices": (2, 5, 8, 11)}
OURS_WINDOWS = "ours, windows"
FAR = 1e-3  # float32 without TF32, random weights


class RotaryCase(NamedTuple):
    """A network by timm's name, and the side in pixels of a batch of square images."""

    name: str
    side: int
    batch: int


CASES = [RotaryCase("vit_small_patch16_dinov3", 1024, 2), RotaryCase("eva02_base_patch14_224", 896, 2)]
TINY_CASES = [RotaryCase("vit_small_patch16_dinov3", 96, 1)]


def compare_rotary(bench: Bench, rows: Rows) -> None:
    """Compare the cases; timm, which describes the networks, has to be installed."""
    if importlib.util.find_spec("timm") is None:
        rows.add(skipped="timm is not installed")
        return
    for case in TINY_CASES if bench.tiny else CASES:
        try:
            _compare(bench, rows, case)
        except Exception as error:  # continue with the others
            rows.add(model=case.name, error=describe(error))
        bench.reset()


def _compare(bench: Bench, rows: Rows, case: RotaryCase) -> None:
    nets = _build(bench, case)
    x = torch.randn(case.batch, 3, case.side, case.side, device=bench.device)
    place = {"model": case.name, "size": [case.side, case.side], "batch": case.batch}
    set_precision("float32")
    with torch.no_grad():
        gap = largest_difference(maps_of(nets[OURS].eval(), x), maps_of(nets["timm"].eval(), x))
    rows.add(**place, who="timm", difference=gap, **({} if gap <= FAR else {"error": "other maps than timm's"}))
    for precision in bench.precisions:
        dtype = set_precision(precision)
        for mode, training in MODES.items():
            jobs = {who: prepare_pass(net, x, training, dtype) for who, net in nets.items()}
            work = count(jobs[OURS], [*nets[OURS].parameters(), x])
            if bench.full:
                jobs[GRAPH] = Replay(prepare_pass(nets[OURS], x, training, dtype), bench.on_gpu)
            bench.compare(rows, jobs, work, **place, precision=precision, mode=mode)
        bench.free()


def _build(bench: Bench, case: RotaryCase) -> dict[str, nn.Module]:
    """Build ours and timm's with equal weights, ours with windows, and Detectron2's ViT of the same sizes."""
    ours, theirs = pair(case.name, torch.float32)
    nets: dict[str, nn.Module] = {OURS: ours, "timm": theirs}
    nets[OURS_WINDOWS] = build_on(bench.device, lambda: ViT(name=case.name, **WINDOWS))
    if importlib.util.find_spec("detectron2"):
        nets["detectron2"] = build_on(bench.device, lambda: Detectron2s(ours, case.side, False))
    return {who: net.to(bench.device) for who, net in nets.items()}
