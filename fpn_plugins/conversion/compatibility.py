"""What has to agree between two detectors and is in no checkpoint.

Not all of it can be read from any detector: the source of P6, the fusion of the top-down path, dilation and the norms'
``eps`` are those of the config, and have to be compared there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3  # of a pixel, and of a pixel value


@dataclass
class DetectorFacts:
    """Read from a built detector by ``adapters.<toolbox>.compatibility.detector_facts``.

    Attributes:
        channel_order: ``"RGB"`` or ``"BGR"``, as the network gets the image.
        pixel_mean: subtracted from each channel, on the 0..255 scale.
        pixel_std: that it is then divided by.
        num_classes: thing classes.
        strides: input pixels per cell of each level that has anchors.
        anchors: corners in pixels around the cell, ``A 4`` per level, in the order of mmdet's output channels.
        num_ratios: aspect ratios of these anchors.
        box_weights: the box coder's, of the RPN or RetinaNet and then of each stage.
        pooling: ``(side, sampling ratio, aligned)`` of the box head's and the mask head's RoIAlign.
        stride_in_1x1: whether a ResNet's bottlenecks stride in their first convolution; ``None`` for other networks.
        relu_before_p7: whether P6 passes a ReLU on its way to P7; ``None`` where there is no such convolution.
    """

    channel_order: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    num_classes: int
    strides: tuple[int, ...] = ()
    anchors: tuple[Tensor, ...] = ()
    num_ratios: int = 1
    box_weights: tuple[tuple[float, ...], ...] = ()
    pooling: tuple[tuple[int, int, bool], ...] = ()
    stride_in_1x1: bool | None = None
    relu_before_p7: bool | None = None

    def differences(self, other: DetectorFacts) -> list[str]:
        """A line for each fact in which the two differ; empty when weights may be moved between them."""
        lines = []
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if not _same(mine, theirs):
                lines.append(f"{entry.name}: {_shown(mine)} here, {_shown(theirs)} there")
        return lines


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(torch.allclose(a, b, rtol=0, atol=TOLERANCE))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE
    return a == b


def _shown(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        sides = [[[round(float(side), 1) for side in box[2:] - box[:2]] for box in level] for level in value]
        return (
            f"sides {sides}"
            if sum(map(len, sides)) <= 9
            else f"{[len(level) for level in sides]} per level, {sides[0]}, ..."
        )
    return repr(value)


def stride_in_1x1(backbone: nn.Module) -> bool | None:
    """Where the bottlenecks of a ResNet stride: its second stage's first block tells; ``None`` for other networks."""
    modules = dict(backbone.named_modules())
    block = next(
        (m for name, m in modules.items() if name.endswith(("layer2.0", "res3.0")) and hasattr(m, "conv3")), None
    )
    return None if block is None else max(_strides(block.conv1)) > max(_strides(block.conv2))


def _strides(conv: nn.Module) -> Sequence[int]:
    inner = next((m for m in conv.modules() if hasattr(m, "stride")), None)
    stride = getattr(inner, "stride", 1)
    return stride if isinstance(stride, tuple) else (stride,)


def num_ratios(anchors: Tensor) -> int:
    """How many aspect ratios the anchors of one cell, ``A 4``, have."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    return len(set((height / width).log2().mul(32).round().tolist()))
