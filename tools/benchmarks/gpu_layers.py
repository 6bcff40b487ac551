"""Compare whole attention layers with relative positions on a device: ours and Detectron2's."""

from __future__ import annotations

import copy
import importlib.util

import torch
from bench_models import perturb, prepare_pass
from gpu_measure import MODES, Bench, Rows, set_precision
from torch import nn

from fpn_plugins.backbones.vit.attention import Attention


def compare_layers(bench: Bench, rows: Rows, name: str, batch: int, heads: int, channels: int, side: int) -> None:
    """Compare our layer, eager and compiled, with that of detectron2 if installed, with the same weights."""
    layers = build_layers(heads, heads * channels, side, bench.device)
    x = torch.randn(batch, side, side, heads * channels, device=bench.device)
    for precision in bench.precisions:
        dtype = set_precision(precision)
        place = {"case": f"{name} layer", "batch": batch, "side": side, "precision": precision}
        if bench.full and bench.compiles(precision):
            layers["ours compiled"] = copy.deepcopy(layers["ours"])
            layers["ours compiled"].compile(backend=bench.backend)
        for mode, training in MODES.items():
            x = x.detach().requires_grad_(training)
            jobs = {who: prepare_pass(layer, x, training, dtype) for who, layer in layers.items()}
            bench.compare(rows, jobs, **place, mode=mode)
        layers.pop("ours compiled", None)
        bench.reset()


def build_layers(heads: int, dim: int, side: int, device: str) -> dict[str, nn.Module]:
    """Build attention layers of ``dim`` channels with relative positions for a square map."""
    size = (side, side)
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"ours": perturb(Attention(dim, heads, rel_pos_size=size).to(device))}
    if importlib.util.find_spec("detectron2"):
        from detectron2.modeling.backbone.vit import Attention as Peer

        layers["detectron2"] = Peer(dim, heads, use_rel_pos=True, input_size=size).to(device)
        layers["detectron2"].load_state_dict(layers["ours"].state_dict())
    return layers
