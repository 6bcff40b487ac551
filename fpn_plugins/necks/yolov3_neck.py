"""Neck of YOLOv3: An Incremental Improvement (Redmon and Farhadi, arXiv:1804.02767, section 2.3).

::

    c5 ---------[1x1 3x3 1x1 3x3 1x1]--> p5
                                     |--1x1--x2
    c4 --concat-[1x1 3x3 1x1 3x3 1x1]--> p4
                                     |--1x1--x2
    c3 --concat-[1x1 3x3 1x1 3x3 1x1]--> p3

Each level has its own width. Deliberate differences from mmdet: maps go from high to low resolution, as in all necks
here (mmdet's arguments and outputs are in the opposite order, which its adapter keeps); and a coarser map is resized to
the finer one's size, where mmdet doubles it and fails if the finer map is not exactly twice as large.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import integers, positive_int
from ..features import FeatureSpec
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..upsampling import UpsampleMode, make_upsample
from ..weights import accept_layouts
from ..weights.maps import yolov3_neck
from .base import PyramidNeck, check_halving
from .card import NeckCard

# Darknet-53's maps
DARKNET = tuple(FeatureSpec(256 << k, 8 << k) for k in range(3))


def detection_block(in_channels: int, channels: int, **layers: Any) -> nn.Sequential:
    """Build five convolutions, 1x1 to ``channels`` and 3x3 to twice as many in turn; ``layers`` as of `ConvNormAct`."""
    widths = (channels, 2 * channels, channels, 2 * channels, channels)
    before = (in_channels, *widths[:-1])
    return nn.Sequential(
        *(ConvNormAct(a, b, 3 if k % 2 else 1, **layers) for k, (a, b) in enumerate(zip(before, widths, strict=True)))
    )


class Level(nn.Module):
    """Block of one level, and the 1x1 convolution that the coarser level passes before it.

    Args:
        in_channels: channels of the backbone's map.
        channels: channels of the output.
        coarser: channels of the coarser level; ``None`` at the coarsest.
        **layers: ``norm``, ``act`` and ``conv`` of `ConvNormAct`.
    """

    def __init__(self, in_channels: int, channels: int, coarser: int | None, **layers: Any) -> None:
        super().__init__()
        self.reduce_conv = None if coarser is None else ConvNormAct(coarser, channels, 1, **layers)
        joined = in_channels if coarser is None else in_channels + channels
        self.block = detection_block(joined, channels, **layers)

    def forward(self, x: Tensor, coarser: Tensor | None = None, upsample: nn.Module | None = None) -> Tensor:
        """Map ``B C H W``, and the output of the coarser level, to ``B channels H W``."""
        if self.reduce_conv is not None and coarser is not None and upsample is not None:
            up = upsample(self.reduce_conv(coarser), (x.shape[-2], x.shape[-1]))
            x = torch.cat((up, x), dim=1)
        return self.block(x)


class YOLOV3Neck(PyramidNeck):
    """Top-down path of concatenations, each followed by a block of five convolutions.

    Args:
        in_channels, in_indices: see `PyramidNeck`.
        out_channels: channels of each output map, high to low resolution, or one number for all (paper: 128, 256, 512).
        upsample_mode: ``"nearest"`` (paper) or another, see `make_upsample`.
        norm: see `make_norm`.
        act: activation after each convolution; ``"leaky_relu"`` has the paper's slope 0.1.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`.
        gradient_checkpointing: recompute the maps inside the levels in backward instead of keeping them.

    State dict: ``levels.{i}.block.{0..4}`` and ``levels.{i}.reduce_conv``, each with ``conv.*`` and ``norm.*``, ``i``
    counting from the lowest resolution. mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above, or another number of channels than of used inputs.
    """

    card = NeckCard(
        idea="A top-down path of concatenations; five convolutions per level, at widths of their own.",
        use_when="with YOLOv3's head and Darknet-53.",
        caveats="No bottom-up path, and each level has its own width, so heads that share their weights between levels "
        "need one number for `out_channels`.",
        paper="Joseph Redmon, Ali Farhadi: YOLOv3: An Incremental Improvement. arXiv 2018, arXiv:1804.02767",
        reference="mmdet `models/necks/yolo_neck.py`",
        topology="""
               backbone | top-down          | output
            5: C5       | M5 (5 convs) < C5    | P5 < M5
            4: C4       | M4 (5 convs) < C4 M5 | P4 < M4
            3: C3       | M3 (5 convs) < C3 M4 | P3 < M3""",
        results=("box AP 33.7: YOLOv3, Darknet-53, 608 x 608, 273 epochs (mmdet model zoo)",),
        in_specs=DARKNET,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int | Sequence[int] = (128, 256, 512),
        in_indices: Sequence[int] | None = None,
        upsample_mode: UpsampleMode = "nearest",
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "leaky_relu",
        conv: ConvFactory | None = None,
        init: str | None = "kaiming_normal",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, 1, in_indices, gradient_checkpointing)
        count = len(self.used_channels)
        if isinstance(out_channels, Sequence):
            channels = integers("out_channels", out_channels, 1, count)
        else:
            channels = (positive_int("out_channels", out_channels),) * count
        check_layers(norm=norm, act=act, conv=conv, init=init)
        layers: dict[str, Any] = {"norm": norm, "act": act, "conv": conv}
        self.all_channels = channels
        self.out_channels = max(channels)

        widths, used = channels[::-1], self.used_channels[::-1]  # in the order of the computation
        self.levels = nn.ModuleList(
            Level(own, width, coarser, **layers)
            for own, width, coarser in zip(used, widths, (None, *widths), strict=False)
        )
        init_convs(self, init)
        # built last: learned upsampling has its own initialization
        self.upsamples = nn.ModuleList(make_upsample(upsample_mode, fine) for fine in widths[1:])
        accept_layouts(self, (yolov3_neck.mmdet(count),), level_prefixes=("levels.", "upsamples."))

    def level_channels(self, number: int) -> Sequence[int]:
        """Return the channels of each output."""
        return self.all_channels

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward`, and return those at ``in_indices``.

        Raises:
            ValueError: also for a map that is not half as large as the previous one, rounded either way.
        """
        used = super().used(inputs)
        check_halving(used, type(self).__name__, rounded_down=True)
        return used

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        run = partial(checkpointing.run, checkpointed=self.gradient_checkpointing)
        coarsest, *finer = self.levels
        outputs = [run(coarsest, inputs[-1])]
        for level, upsample, x in zip(finer, self.upsamples, reversed(inputs[:-1]), strict=True):
            outputs.append(run(level, x, outputs[-1], upsample))
        return outputs[::-1]
