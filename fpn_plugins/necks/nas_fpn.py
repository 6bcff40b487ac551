"""NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection (Ghiasi et al., CVPR 2019).

arXiv:1904.07392, section 3 and figure 6: the "7 @ 256" pyramid, whose graph was found by search::

    m4 = gate(p6, p4)             each line:   both maps at the resolution of the result, then ReLU - 3x3 - norm
    t4 = m4 + p4                               (once: not between a gate and the sum around it)
    p3 <- t4 + p3                 gate(x, y):  y + sigmoid(mean of y) * x, per channel
    p4 <- p3 + t4                 resolution:  nearest to a finer level, max-pooling to a coarser one
    p5 <- p5 + gate(p4, p3)       inputs:      c3, c4, c5, each --1x1-->, and from the last
    p7 <- p7 + gate(p5, t4)                    p5 --1x1--max-pool--> p6 --1x1--max-pool--> p7
    p6 <- gate(p7, p5)

repeated seven times; the outputs of one repeat are the inputs of the next.

Google's implementation (tensorflow/models ``official/vision/modeling/decoders/nasfpn.py``) gates with the maximum of
the coarser map instead. Deliberate differences from mmdet: an extra level keeps at least one cell, where mmdet raises;
and the levels, not the sizes, decide the direction of a resize (equivalent if no coarser map is larger).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import integer, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, make_act, with_bias
from ..ops import checkpointing
from ..ops.pooling import max_pool2d, max_pool_blocks
from ..weights import accept_layouts
from ..weights.maps import nas_fpn
from .base import PyramidNeck
from .card import C3_TO_C5, NeckCard
from .graph import Graph, GraphCell, Node

NUM_LEVELS = 5
# maps 0..4 are the inputs, P3..P7 in the paper; the last map of each level is an output
GRAPH = Graph(
    NUM_LEVELS,
    (
        Node(1, (3, 1), "gate"),  # 5 = p6, p4
        Node(1, (5, 1)),  # 6
        Node(0, (6, 0)),  # 7, p3's output
        Node(1, (7, 6)),  # 8, p4's output
        Node(2, (8, 7), "gate"),  # 9
        Node(2, (2, 9)),  # 10, p5's output
        Node(4, (10, 6), "gate"),  # 11
        Node(4, (4, 11)),  # 12, p7's output
        Node(3, (12, 10), "gate"),  # 13, p6's output
    ),
)
WITHOUT_CONV = (9, 11)  # maps that a sum reads before ReLU and convolution


def halve(x: Tensor) -> Tensor:
    """Max-pool 2x2, dropping an odd last row or column; one cell stays one cell."""
    kernel = (1 if x.shape[-2] == 1 else 2, 1 if x.shape[-1] == 1 else 2)  # a trace does not simplify min(2, side)
    return max_pool2d(x, kernel, kernel)


def gate(first: Tensor, second: Tensor) -> Tensor:
    """Add ``first``, weighted per channel by the sigmoid of the mean of ``second``, to ``second`` (``B C H W``)."""
    return second + second.mean((-2, -1), keepdim=True).sigmoid() * first


MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"sum": torch.add, "gate": gate}


class MergingCell(nn.Module):
    """Merge of two maps, resized to the size of the cell's level.

    Args:
        op: ``"sum"`` or ``"gate"``.
        steps: number of levels by which each map is coarser than the result (negative: finer).
        act: activation before the convolution, or ``None``.
        output_conv: convolution after the merge, or ``None``.
    """

    def __init__(self, op: str, steps: Sequence[int], act: nn.Module | None, output_conv: nn.Module | None) -> None:
        super().__init__()
        self.merge = MERGES[op]
        self.steps = tuple(steps)
        self.act = act
        self.output_conv = output_conv

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Merge two maps ``B C h w`` into ``B C H W`` with ``(H, W) = size``."""
        first, second = (self._resize(x, step, size) for x, step in zip(maps, self.steps, strict=True))
        x = self.merge(first, second)
        x = x if self.act is None else self.act(x)
        return x if self.output_conv is None else self.output_conv(x)

    @staticmethod
    def _resize(x: Tensor, step: int, size: tuple[int, int]) -> Tensor:
        if step > 0:
            return F.interpolate(x, size=size, mode="nearest")
        return max_pool_blocks(x, size) if step < 0 else x


class NASFPN(PyramidNeck):
    """Pyramid of five levels (P3..P7 in the paper), merged along a searched graph.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`; ``(1, 2, 3)`` of C2..C5 gives the paper's P3..P7.
        num_extra_levels: number of levels after the last input, each a 1x1 convolution and 2x2 max-pooling, rounded
            down to at least one cell; ``None`` for as many as make five levels.
        num_repeats: number of times the graph runs, each with its own weights (paper: 7; also 3 and 5).
        norm: norm after each convolution: ``None`` as mmdet's default, ``"BN"`` as in the paper and mmdet's config.
        act: activation before the convolution of each merging cell.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`.
        gradient_checkpointing: keep only the maps between the repeats for backward and recompute the others.

    State dict: ``lateral_convs.{i}``, ``extra_levels.{k}``, ``cells.{r}.nodes.{n}.output_conv``, each with ``conv.*``
    and ``norm.*``. mmdet's layout loads unchanged.

    Raises:
        ValueError: an argument outside the values above, or a number of levels other than five.
    """

    card = NeckCard(
        idea="A graph of merges over P3..P7 that was found by search, repeated seven times.",
        use_when="when accuracy matters most, training is long and batch norm works: the gain over FPN was published "
        "for 50 epochs of large crops.",
        caveats="Many maps are alive at once (see the bytes kept for backward), and a searched graph gives no "
        "rationale for tuning it. Exactly five levels.",
        paper="Golnaz Ghiasi, Tsung-Yi Lin, Ruoming Pang, Quoc V. Le: NAS-FPN: Learning Scalable Feature Pyramid "
        "Architecture for Object Detection. CVPR 2019, arXiv:1904.07392",
        reference="mmdet `models/necks/nas_fpn.py` with mmcv `ops/merge_cells.py`",
        topology=GRAPH,
        results=("box AP 40.5 (FPN: 37.9): RetinaNet R50, 640 crops, 50 epochs (mmdet model zoo)",),
        in_specs=C3_TO_C5,
        arguments={"norm": "BN"},
    )

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
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        self.num_extra_levels = _check_levels(len(self.in_indices), num_extra_levels)
        positive_int("num_repeats", num_repeats)
        check_layers(norm=norm, act=act, conv=conv, init=init)

        biased = with_bias(conv)  # mmcv's cells have a bias even before a norm

        def project(channels: int) -> nn.Module:
            return ConvNormAct(channels, out_channels, 1, norm=norm, conv=conv)

        def cell(number: int, node: Node) -> nn.Module:
            steps = [GRAPH.level_of(source) - node.level for source in node.inputs]
            if number in WITHOUT_CONV:
                return MergingCell(node.op, steps, None, None)
            output_conv = ConvNormAct(out_channels, out_channels, 3, norm=norm, conv=biased)
            return MergingCell(node.op, steps, make_act(act), output_conv)

        def cells() -> list[nn.Module]:
            return [cell(number, node) for number, node in enumerate(GRAPH.nodes, start=NUM_LEVELS)]

        self.lateral_convs = nn.ModuleList(project(channels) for channels in self.used_channels)
        self.extra_levels = nn.ModuleList(project(out_channels) for _ in range(self.num_extra_levels))
        self.cells = nn.ModuleList(GraphCell(GRAPH, cells()) for _ in range(num_repeats))
        init_convs(self, init)
        accept_layouts(self, (nas_fpn.mmdet(),), level_prefixes=("lateral_convs.", "extra_levels.", "cells."))

    def pyramid(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        maps = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=True)]
        for conv in self.extra_levels:
            maps.append(halve(conv(maps[-1])))
        for cell in self.cells:
            maps = checkpointing.run(cell, maps, checkpointed=self.gradient_checkpointing)
        return maps


def _check_levels(num_inputs: int, num_extra_levels: int | None) -> int:
    extra = NUM_LEVELS - num_inputs
    if num_extra_levels is not None:
        extra = integer("num_extra_levels", num_extra_levels)
    if extra < 0 or num_inputs + extra != NUM_LEVELS:
        wanted = NUM_LEVELS - num_inputs
        remedy = f"set num_extra_levels={wanted}" if wanted >= 0 else "choose five inputs or fewer with in_indices"
        raise ValueError(
            f"num_extra_levels={num_extra_levels} on {num_inputs} inputs: the searched graph joins exactly "
            f"{NUM_LEVELS} levels (P3..P7 in the paper); {remedy}"
        )
    return extra
