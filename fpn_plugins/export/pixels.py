"""Prepare images inside an exported graph: channel order, normalization, padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PixelInput(nn.Module):
    """Normalize RGB images of one size and pad them at the right and at the bottom.

    Args:
        mean: subtracted from each channel, in the order of ``order``, on the scale 0..255.
        std: divisor of each channel after that.
        order: ``"RGB"`` or ``"BGR"``, order of the network's channels.
        divisor: both sides are padded to a multiple of this number of pixels.
        square: both sides are padded to this number of pixels, rounded up to ``divisor``, 0 for none; larger images
            are cropped.
        pad_value: value of the new pixels, after normalization.
        normalized: images come normalized, in the order ``order``, and are only padded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        order: str,
        divisor: int = 1,
        square: int = 0,
        pad_value: float = 0.0,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.order, self.divisor, self.square = order, max(divisor, 1), square
        self.pad_value, self.normalized = pad_value, normalized

    def forward(self, images: Tensor) -> Tensor:
        """Map ``B 3 H W``, any type of numbers, to the network's input."""
        pixels = images.to(self.mean.dtype)
        if not self.normalized:
            pixels = ((pixels.flip(1) if self.order == "BGR" else pixels) - self.mean) / self.std
        height, width = pixels.shape[-2:]
        below, right = self._padding(height), self._padding(width)
        return F.pad(pixels, (0, right, 0, below), value=self.pad_value)

    def _padding(self, side: int) -> int:
        return ((self.square or side) + self.divisor - 1) // self.divisor * self.divisor - side
