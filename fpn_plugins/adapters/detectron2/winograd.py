"""Winograd convolutions in Detectron2's networks, whose ResNet and heads have convolutions of a class of their own."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.layers import Conv2d
from torch import Tensor, nn

from ...winograd import MIN_CHANNELS, WinogradConv2d
from ...winograd import use_winograd as use_core_winograd


class _Conv2d(WinogradConv2d, Conv2d):
    """Detectron2's ``Conv2d``, which has a norm and an activation behind it."""

    plain = Conv2d
    norm: nn.Module | None
    activation: Callable[[Tensor], Tensor] | None

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolved(x)
        if y is None:
            return Conv2d.forward(self, x)
        y = y if self.norm is None else self.norm(y)
        return y if self.activation is None else self.activation(y)


def use_winograd(model: nn.Module, min_channels: int = MIN_CHANNELS) -> int:
    """Turn the convolutions of a Detectron2 network that suit into `WinogradConv2d`, norms and activations behind them.

    Args:
        model: changed in place; its state dict stays as it is.
        min_channels: as of `fpn_plugins.winograd.use_winograd`.

    Returns:
        The number of convolutions that were turned.

    Raises:
        ValueError: ``min_channels`` below 1.
    """
    return use_core_winograd(model, min_channels, others={Conv2d: _Conv2d})
