"""Run only the convolutions of a network: a lower bound for every implementation of the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class ConvCall(NamedTuple):
    """One call of a convolution.

    Attributes:
        conv: convolution with the network's own weights.
        x: input of the call's shape and memory format, ``B C_in H W``.
        gradient: gradient of the output, ``B C_out H W``.
    """

    conv: nn.Module
    x: Tensor
    gradient: Tensor


def record_convs(network: nn.Module, run: Callable[[], Any]) -> list[ConvCall]:
    """Record every call of an ``nn.Conv2d`` of ``network`` while ``run`` runs it, with random values."""
    calls: list[ConvCall] = []

    def keep(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(ConvCall(conv, torch.randn_like(inputs[0]), torch.randn_like(output)))

    hooks = [layer.register_forward_hook(keep) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def run_convs(calls: Sequence[ConvCall], training: bool) -> None:
    """Run the convolutions in order, each forward, or each forward and backward to input and weights."""
    for call in calls:
        with torch.set_grad_enabled(training):
            output = call.conv(call.x.detach().requires_grad_(training))
            if training:
                output.backward(call.gradient)
