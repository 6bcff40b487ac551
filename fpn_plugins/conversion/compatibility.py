"""Compare settings that must agree between two detectors but that no checkpoint stores.

Some cannot be read from a built detector: compare the source of P6, the top-down fusion, dilation and the norms'
``eps`` in the configs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3  # of coordinates in pixels and of pixel values


@dataclass
class DetectorFacts:
    """Settings of a built detector, read by ``adapters.<toolbox>.compatibility.detector_facts``.

    Attributes:
        channel_order: ``"RGB"`` or ``"BGR"``, order of the network's input.
        pixel_mean: mean subtracted from each channel, on the 0..255 scale.
        pixel_std: divisor of each channel after that.
        num_classes: number of thing classes.
        strides: input pixels per cell of each level that has anchors.
        anchors: corners in pixels around the cell, ``A 4`` per level, in the order of mmdet's output channels.
        num_ratios: number of aspect ratios of these anchors.
        box_weights: box coder weights of the RPN or RetinaNet, then of each stage.
        pooling: ``(side, sampling ratio, aligned)`` of the box head's RoIAlign, then of the mask head's.
        stride_in_1x1: whether a ResNet's bottlenecks stride in their first convolution; ``None`` for other networks.
        relu_before_p7: whether P7 is computed from ReLU(P6); ``None`` if no convolution computes P7.
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
        """Describe each difference in one line; an empty list means that weights can be moved between the detectors."""
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
        short = sum(map(len, sides)) <= 9
        return f"sides {sides}" if short else f"{[len(level) for level in sides]} per level, {sides[0]}, ..."
    return repr(value)


def stride_in_1x1(backbone: nn.Module) -> bool | None:
    """Read `DetectorFacts.stride_in_1x1` from the first block of a ResNet's second stage."""
    for name, block in backbone.named_modules():
        if name.endswith(("layer2.0", "res3.0")) and hasattr(block, "conv3"):
            return max(_strides(block.conv1)) > max(_strides(block.conv2))
    return None


def roi_align_settings(layer: Any) -> tuple[int, int, bool]:
    """Read output side, sampling ratio and alignment from either toolbox's RoIAlign layer."""
    return int(layer.output_size[0]), int(layer.sampling_ratio), bool(layer.aligned)


def _strides(conv: nn.Module) -> Sequence[int]:
    inner = next((m for m in conv.modules() if hasattr(m, "stride")), None)
    stride = getattr(inner, "stride", 1)
    return stride if isinstance(stride, tuple) else (stride,)


def num_ratios(anchors: Tensor) -> int:
    """Count the aspect ratios of the anchors of one cell, ``A 4``."""
    width, height = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    return len(set((height / width).log2().mul(32).round().tolist()))
