"""NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection (Ghiasi et al., CVPR 2019).

arXiv:1904.07392, section 3 and figure 6: the "7 @ 256" pyramid, whose graph was found by search::

    m4 = gate(p6, p4)             each line:   both maps at the resolution of the result, then ReLU - 3x3 - norm
    t4 = m4 + p4                               (once: not between a gate and the sum around it)
    p3 <- t4 + p3                 gate(x, y):  y + sigmoid(mean of y) * x, per channel
    p4 <- p3 + t4                 resolution:  nearest to a finer level, max-pooling to a coarser one
    p5 <- p5 + gate(p4, p3)       inputs:      c3, c4, c5, each --1x1-->, and from the last
    p7 <- p7 + gate(p5, t4)                    p5 --1x1--max-pool--> p6 --1x1--max-pool--> p7
    p6 <- gate(p7, p5)

repeated seven times, the outputs of one repeat being the inputs of the next.

Reference code: mmdet ``models/necks/nas_fpn.py`` with mmcv ``ops/merge_cells.py``, which this class equals. Google's
(tensorflow/models ``official/vision/modeling/decoders/nasfpn.py``) gates with the maximum of the coarser map instead.
Deliberate differences from mmdet: where it raises because an extra level would have no cell, one cell stays; and the
direction of a resize follows from the levels, not from the sizes (equal wherever coarser maps are not larger).

An exported graph takes images whose sides are multiples of the coarsest stride: on others the size of a pooling block
changes with the image (eager and ``torch.compile`` take any).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, init_convs, make_act, with_bias
from ..ops import checkpointing
from ..ops.pooling import max_pool2d
from ..weights import accept_layouts
from ..weights.maps import nas_fpn
from .base import PyramidNeck
from .graph import Graph, GraphCell, Node


class Cell(NamedTuple):
    """A node and what it does: ``"sum"`` or ``"gate"``, with or without ReLU, 3x3 convolution and norm after it."""

    node: Node
    op: str
    conv: bool = True


# maps 0..4 are the inputs, P3..P7 in the paper; the last map of each level is an output
CELLS = (
    Cell(Node(1, (3, 1)), "gate"),  # 5 = p6, p4
    Cell(Node(1, (5, 1)), "sum"),  # 6
    Cell(Node(0, (6, 0)), "sum"),  # 7, p3's output
    Cell(Node(1, (7, 6)), "sum"),  # 8, p4's output
    Cell(Node(2, (8, 7)), "gate", conv=False),  # 9
    Cell(Node(2, (2, 9)), "sum"),  # 10, p5's output
    Cell(Node(4, (10, 6)), "gate", conv=False),  # 11
    Cell(Node(4, (4, 11)), "sum"),  # 12, p7's output
    Cell(Node(3, (12, 10)), "gate"),  # 13, p6's output
)
NUM_LEVELS = 5
GRAPH = Graph(NUM_LEVELS, tuple(cell.node for cell in CELLS))


def max_pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Maximum over equal blocks, as mmcv's merging cells pool.

    Where ``size`` does not divide the map, zeros are put around it until it does, half of them (rounded down) on the
    top and on the left; so a negative maximum at the border becomes zero.

    Args:
        x: ``B C h w``.
        size: ``(H, W)``, not larger than ``(h, w)``.
    """
    height, width = size
    kernel = (-(-x.shape[-2] // height), -(-x.shape[-1] // width))
    down, right = kernel[0] * height - x.shape[-2], kernel[1] * width - x.shape[-1]
    if down or right:
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    return max_pool2d(x, kernel, kernel)


def halve(x: Tensor) -> Tensor:
    """Max-pooling 2x2 that drops an odd last row or column; one cell stays one cell."""
    kernel = (min(2, x.shape[-2]), min(2, x.shape[-1]))
    return max_pool2d(x, kernel, kernel)


def gate(first: Tensor, second: Tensor) -> Tensor:
    """``second`` plus ``first``, weighted per channel by the sigmoid of the mean of ``second`` (both ``B C H W``)."""
    return second + second.mean((-2, -1), keepdim=True).sigmoid() * first


OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"sum": torch.add, "gate": gate}


class MergingCell(nn.Module):
    """Brings two maps to the size of its level and merges them.

    Args:
        op: ``"sum"`` or ``"gate"``.
        steps: for each of the two maps, how many levels coarser it is than the result (negative: finer).
        act: activation before the convolution, ``None`` without one.
        output_conv: convolution that follows, ``None`` for none.
    """

    def __init__(self, op: str, steps: Sequence[int], act: nn.Module | None, output_conv: nn.Module | None) -> None:
        super().__init__()
        self.op = op
        self.steps = tuple(steps)
        self.act = act
        self.output_conv = output_conv

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Merge two maps ``B C h w`` to ``B C H W`` with ``(H, W) = size``."""
        first, second = (self._resize(x, step, size) for x, step in zip(maps, self.steps, strict=True))
        x = OPS[self.op](first, second)
        x = x if self.act is None else self.act(x)
        return x if self.output_conv is None else self.output_conv(x)

    @staticmethod
    def _resize(x: Tensor, step: int, size: tuple[int, int]) -> Tensor:
        if step > 0:
            return F.interpolate(x, size=size, mode="nearest")
        return max_pool_to(x, size) if step < 0 else x


class NASFPN(PyramidNeck):
    """Pyramid of five levels, P3..P7 in the paper, merged along a searched graph.

    Args:
        in_channels: channels of each input map, high to low resolution.
        out_channels: channels of every output map.
        num_extra_levels: levels after the last input, each a 1x1 convolution and max-pooling by two; ``None`` is as
            many as make five.
        num_repeats: how often the graph is run through, each time with weights of its own (paper: 7; also 3 and 5).
        in_indices: which inputs the pyramid is built on, ascending, without gaps; ``None`` is all. ``(1, 2, 3)`` of
            C2..C5 gives the paper's P3..P7.
        norm: norm after each convolution: ``None`` as mmdet's default, ``"BN"`` as in the paper and in mmdet's config.
        act: activation before the convolution of each merging cell.
        conv: factory of every convolution, ``None`` is ``nn.Conv2d``.
        init: see `init_convs`.
        gradient_checkpointing: keep only the maps between the repeats for the backward pass, and compute the others
            again.

    State dict: ``lateral_convs.<i>``, ``extra_levels.<k>``, ``cells.<r>.nodes.<n>.output_conv``, each with ``conv.*``
    and ``norm.*``. mmdet's layout loads as it is.

    Raises:
        ValueError: an argument outside of the above, or other than five levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_extra_levels: int | None = None,
        num_repeats: int = 7,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices)
        self.num_extra_levels = _check_levels(len(self.in_indices), num_extra_levels)
        self.gradient_checkpointing = gradient_checkpointing
        if num_repeats < 1:
            raise ValueError(f"num_repeats={num_repeats} must be at least 1; the paper has 3, 5 and 7")

        biased = with_bias(conv)  # mmcv's cells have one beside a norm, too

        def project(channels: int) -> nn.Module:
            return ConvNormAct(channels, out_channels, 1, norm=norm, conv=conv)

        def merge(cell: Cell) -> nn.Module:
            steps = [GRAPH.level_of(number) - cell.node.level for number in cell.node.inputs]
            if not cell.conv:
                return MergingCell(cell.op, steps, None, None)
            output_conv = ConvNormAct(out_channels, out_channels, 3, norm=norm, conv=biased)
            return MergingCell(cell.op, steps, make_act(act), output_conv)

        self.lateral_convs = nn.ModuleList(project(channels) for channels in self.used_channels)
        self.extra_levels = nn.ModuleList(project(out_channels) for _ in range(self.num_extra_levels))
        self.cells = nn.ModuleList(GraphCell(GRAPH, [merge(cell) for cell in CELLS]) for _ in range(num_repeats))
        init_convs(self, init)
        accept_layouts(self, (nas_fpn.mmdet(),), level_prefixes=("lateral_convs.", "extra_levels.", "cells."))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            inputs: one map ``B C H W`` per entry of ``in_channels``, high to low resolution; any sizes in which each
                map is about half as large as the one before.

        Returns:
            Five maps ``B out_channels H W``; the extra ones are half (rounded down, at least 1) as large each.

        Raises:
            ValueError: another number of maps or channels than the neck was built for.
        """
        maps = [conv(x) for conv, x in zip(self.lateral_convs, self.used(inputs), strict=True)]
        for conv in self.extra_levels:
            maps.append(halve(conv(maps[-1])))
        for cell in self.cells:
            maps = checkpointing.run(cell, maps, checkpointed=self.gradient_checkpointing)
        return tuple(maps)


def _check_levels(num_inputs: int, num_extra_levels: int | None) -> int:
    extra = NUM_LEVELS - num_inputs if num_extra_levels is None else num_extra_levels
    if extra < 0 or num_inputs + extra != NUM_LEVELS:
        wanted = NUM_LEVELS - num_inputs
        remedy = f"set num_extra_levels={wanted}" if wanted >= 0 else "choose five inputs or fewer with in_indices"
        raise ValueError(
            f"num_extra_levels={num_extra_levels} on {num_inputs} inputs: the searched graph joins exactly "
            f"{NUM_LEVELS} levels (P3..P7 in the paper); {remedy}"
        )
    return extra
