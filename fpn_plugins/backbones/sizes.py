"""Read published sizes of transformers, and start their layers as they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from ..checks import one_of, positive_number, probability, text

Size = TypeVar("Size", bound=NamedTuple)


def published_size(name: str, sizes: Mapping[str, Size], **given: Any) -> Size:
    """Look up the size of the network that timm calls ``name``, and override fields by arguments that are not ``None``.

    Raises:
        ValueError: ``name`` without the tag of its weights is not in ``sizes``; suggests similar names.
    """
    size = sizes[one_of("name", text("name", name, next(iter(sizes))).split(".")[0], sizes)]
    values = {key: value for key, value in given.items() if value is not None}
    return size._replace(**{key: tuple(v) if isinstance(v, Sequence) else v for key, v in values.items()})


def drop_path_rates(drop_path_rate: float, depth: int) -> list[float]:
    """Return each of ``depth`` blocks' probability of dropping a branch, from 0 linearly up to ``drop_path_rate``."""
    return torch.linspace(
        0, probability("drop_path_rate", drop_path_rate), depth, device="cpu"
    ).tolist()  # has values even under a meta device


def hidden_channels(channels: int, ratio: float, argument: str = "mlp_ratio") -> int:
    """Return the hidden channels of an MLP, or of another layer: ``ratio`` times ``channels``, rounded down.

    ``argument`` is the name of the argument that holds the ratio, for messages.

    Raises:
        TypeError: ``ratio`` is not a number.
        ValueError: ``ratio`` is not above 0, or leaves no channel.
    """
    hidden = int(channels * positive_number(argument, ratio))
    if hidden == 0:
        raise ValueError(f"{argument}={ratio} leaves no hidden channel of {channels}; use at least {1 / channels:g}")
    return hidden


def initialize_linear(module: nn.Module) -> None:
    """Initialize all linear layers as in Vision Transformers: truncated normal weights (std 0.02), zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
