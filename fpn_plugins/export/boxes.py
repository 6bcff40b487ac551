"""Anchors and the decoding of boxes, as both toolboxes compute them; boxes are corners (left, top, right, bottom)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # height and width in pixels; symbolic while a program is traced


@dataclass(frozen=True)
class BoxCoder:
    """Decode offsets of boxes: shift of the center in units of the sides, logarithm of the sides' factors.

    Attributes:
        weights: divisors of the four offsets.
        means: added to the offsets after that.
        min_log: lower limit of the logarithms; ``None`` for none.
        max_log: upper limit of the logarithms.
        clips: whether boxes are clipped to the image.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    min_log: float | None = None
    max_log: float = 4.135
    clips: bool = True

    def decode(self, offsets: Tensor, boxes: Tensor, size: Size) -> Tensor:
        """Return the boxes ``... 4`` that ``offsets`` relative to ``boxes`` describe, both ``... 4``.

        Args:
            offsets: the network's output.
            boxes: anchors, or the boxes of the stage before.
            size: height and width of the image.
        """
        offsets = offsets / offsets.new_tensor(self.weights) + offsets.new_tensor(self.means)
        sides = boxes[..., 2:] - boxes[..., :2]
        centers = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + offsets[..., :2] * sides
        half = sides * offsets[..., 2:].clamp(self.min_log, self.max_log).exp() * 0.5
        decoded = torch.cat([centers - half, centers + half], -1)
        return clip_boxes(decoded, size) if self.clips else decoded


def clip_boxes(boxes: Tensor, size: Size) -> Tensor:
    """Clip boxes ``... 4`` to an image of ``size``."""
    height, width = size
    # TorchScript has sizes as tensors, which one call does not mix with numbers
    x, y = boxes[..., 0::2].clamp(min=0).clamp(max=width), boxes[..., 1::2].clamp(min=0).clamp(max=height)
    return torch.stack([x, y], -1).flatten(-2)


def larger_than(boxes: Tensor, side: float) -> Tensor:
    """Return which boxes ``... 4`` are wider and higher than ``side`` pixels, as booleans ``...``."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)


def quotients(numbers: Tensor, divisor: int) -> Tensor:
    """Return ``numbers // divisor`` of integers from 0 on, in operators that TensorRT has for integers.

    The exporter's form of PyTorch's own division compares booleans, which TensorRT's table does not have.
    """
    guess = (numbers.float() / divisor).to(numbers.dtype)  # off by one at most
    rest = numbers - guess * divisor
    return guess + (rest >= divisor).to(numbers.dtype) - (rest < 0).to(numbers.dtype)


class GridAnchors(nn.Module):
    """Anchors of one level by number, cell by cell in rows, so that only those in use are computed.

    Args:
        base: corners ``A 4`` of the anchors of the first cell, in pixels.
        stride: distance of the cells in x and in y, in pixels.
        offset: added to every center in x and in y, in pixels.
    """

    base: Tensor

    def __init__(self, base: Tensor, stride: tuple[float, float], offset: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.register_buffer("base", base.detach().clone().float(), persistent=False)
        self.stride, self.offset = stride, offset

    def forward(self, numbers: Tensor, width: int) -> Tensor:
        """Return the anchors ``... 4`` with these numbers ``...`` on a map of ``width`` cells."""
        per_cell = self.base.shape[0]
        cells = quotients(numbers, per_cell)
        rows = quotients(cells, width)
        columns = cells - rows * width  # ONNX export has no remainder by a symbolic number
        x = columns.to(self.base.dtype) * self.stride[0] + self.offset[0]
        y = rows.to(self.base.dtype) * self.stride[1] + self.offset[1]
        return self.base[numbers - cells * per_cell] + torch.stack([x, y, x, y], -1)
