"""mmdet's neck and ours from one config of mmdet's, and what is compared of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from seeds import seed
from torch import Tensor, nn

from fpn_plugins import FeatureSpec
from fpn_plugins.testing import make_pyramid


def build_pair(config: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """mmdet's neck and ours from one config, each as mmdet initializes it, from the same random state."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    pair = []
    for kind in (config["type"], f"fpn_plugins.{config['type']}"):
        neck = MODELS.build({**copy.deepcopy(config), "type": kind})
        seed(7)
        neck.init_weights()
        pair.append(neck)
    return pair[0], pair[1]


def slim(config: dict[str, Any], factor: int) -> dict[str, Any]:
    """The same neck with that fraction of the channels: equality does not depend on them, time does."""
    given = config["in_channels"]
    channels = given // factor if isinstance(given, int) else [number // factor for number in given]
    out = {"out_channels": config["out_channels"] // factor} if "out_channels" in config else {}
    return {**config, "in_channels": channels, **out}


def random_maps(channels: Sequence[int], size: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random input maps, each of half the size (rounded up) of the one before."""
    specs = [FeatureSpec(number, 2**level) for level, number in enumerate(channels)]
    return [x.requires_grad_() for x in make_pyramid(specs, size, batch_size=2, seed=None, dtype=dtype)]


def loss_of(outputs: tuple[Tensor, ...]) -> Tensor:
    """A scalar that weighs each output cell differently, so that no gradient cancels."""
    return sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() / o.numel() for o in outputs)


def deviations_from_kaiming(neck: nn.Module) -> list[float]:
    """Standard deviation of each convolution's weights in units of what Kaiming's normal (fan-out) draws."""
    return [float(p.std() * (p.shape[0] * p[0, 0].numel() / 2) ** 0.5) for p in neck.parameters() if p.dim() == 4]
