"""FPN of NAS-FCOS: Fast Neural Architecture Search for Object Detection (Wang et al., CVPR 2020, arXiv:1906.04423).

The searched graph of figure 3, as mmdet has it, on maps 0, 1, 2 = c3, c4, c5 after a 1x1 convolution with batch norm::

    3 = join(3x3 2, 3x3 2)        join(x, y):  resize to the finer map, concat, BN, ReLU, 1x1 of pairs of channels
    4 = join(3x3 2, 3x3 2)        3x3:         a deformable convolution in the published detectors
    5 = join(3x3 3, 2)
    6 = join(3x3 0, 2)
    7 = join(3x3 4, 3x3 2)        p5 = 7 + 5
    8 = join(3x3 3, 3x3 6)        p4 = 8 + 5, resized to c4
    9 = join(3x3 6, 3x3 1)        p3 = 9 + 5
                                  p6 = 3x3 p5, p7 = 3x3 ReLU p6, with stride 2

A coarser map is resized by copying in a join, and bilinearly in the last sums. Deliberate differences from mmdet: the
three maps may be at any positions (mmdet reads the sizes of positions 1 to 3, whatever ``start_level`` is).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import integer
from ..layers import ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, with_bias
from ..ops import checkpointing
from ..weights import accept_layouts
from ..weights.maps import nas_fcos_fpn
from .base import PyramidNeck
from .card import C3_TO_C5, NeckCard
from .extra_levels import ExtraLevels
from .graph import Graph, GraphCell, Node

NUM_LEVELS = 3
GRAPH = Graph(
    NUM_LEVELS,
    (
        Node(2, (2, 2)),  # 3
        Node(2, (2, 2)),  # 4
        Node(2, (3, 2)),  # 5, added to each output
        Node(0, (0, 2)),  # 6
        Node(2, (4, 2)),  # 7, p5
        Node(0, (3, 6)),  # 8, p4
        Node(0, (6, 1)),  # 9, p3
    ),
    outputs=(9, 8, 7, 5),
)
FIRST_CONV_ONLY = (5, 6)  # nodes that read their second map without a convolution


class JoiningCell(nn.Module):
    """Concatenation of two maps at the size of the finer one, then norm, ReLU and a 1x1 convolution.

    Args:
        channels: channels of each map.
        steps: number of levels by which each map is coarser than the result.
        num_convs: number of maps, from the first, that are convolved before.
        norm, conv: norm and factory of these 3x3 convolutions.
    """

    def __init__(
        self,
        channels: int,
        steps: Sequence[int],
        num_convs: int,
        norm: str | NormFactory | None,
        conv: ConvFactory | None,
    ) -> None:
        super().__init__()
        self.steps = tuple(steps)
        # each output channel reads two neighboring channels of the concatenation
        self.output_conv = nn.Conv2d(2 * channels, channels, 1, groups=channels, bias=False)
        self.output_norm = nn.BatchNorm2d(2 * channels)
        self.input_convs = nn.ModuleList(
            ConvNormAct(channels, channels, 3, norm=norm, act="relu", conv=with_bias(conv)) for _ in range(num_convs)
        )

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Merge two maps ``B C h w`` into ``B C H W`` with ``(H, W) = size``."""
        maps = [conv(x) for conv, x in zip(self.input_convs, maps, strict=False)] + list(maps[len(self.input_convs) :])
        resized = [F.interpolate(x, size=size) if step else x for x, step in zip(maps, self.steps, strict=True)]
        return self.output_conv(F.relu(self.output_norm(torch.cat(resized, dim=1))))


class NASFCOSFPN(PyramidNeck):
    """Pyramid of three levels that are merged along a searched graph, then strided convolutions.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`; exactly three inputs are used.
        num_extra_levels: number of levels after the third.
        norm: norm after the 3x3 convolutions of the graph; the others have batch norm.
        conv: factory of these convolutions; ``None`` for ``nn.Conv2d``. The published detectors have
            ``partial(ModulatedDeformConv2d, offset_groups=2)``.
        init: see `init_convs`; for the 1x1 convolutions and the extra levels. The graph's have Kaiming's normal.
        gradient_checkpointing: recompute the maps inside the graph in backward instead of keeping them.

    State dict: see `fpn_plugins.weights.maps.nas_fcos_fpn`. The layout of mmdet's ``NASFCOS_FPN`` loads unchanged.

    Raises:
        ValueError: an argument outside the values above, or a number of levels other than three.
    """

    card = NeckCard(
        idea="A searched graph of concatenations over P3..P5, whose result is added to each level.",
        use_when="with FCOS's head and deformable convolutions, for which the graph was searched.",
        caveats="It needs batch norm, and a searched graph gives no rationale for tuning it. Exactly three levels "
        "before the extra ones.",
        paper="Ning Wang, Yang Gao, Hao Chen, Peng Wang, Zhi Tian, Chunhua Shen, Yanning Zhang: NAS-FCOS: Fast Neural "
        "Architecture Search for Object Detection. CVPR 2020, arXiv:1906.04423",
        reference="mmdet `models/necks/nasfcos_fpn.py` with mmcv `ops/merge_cells.py`",
        topology="""
               backbone | 1×1 | join | join | join | join | join | output
            7: | | | | | | | P7 < P6
            6: | | | | | | | P6 < P5
            5: C5 | L5 < C5 | M3 (join) < L5 | M4 (join) < L5 | M5 (join) < M3 L5 | M7 (join) < M4 L5 | | P5 (+) < M7 M5
            4: C4 | L4 < C4 | | | | | | P4 (+) < M8 M5
            3: C3 | L3 < C3 | | | M6 (join) < L3 L5 | M9 (join) < M6 L4 | M8 (join) < M3 M6 | P3 (+) < M9 M5""",
        results=("box AP 39.4: NAS-FCOS, R50-caffe, 12 epochs (mmdet model zoo)",),
        in_specs=C3_TO_C5,
        example_arguments={"out_channels": 32, "in_indices": (1, 2, 3)},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_extra_levels: int = 2,
        in_indices: Sequence[int] | None = None,
        norm: str | NormFactory | None = "BN",
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        if len(self.in_indices) != NUM_LEVELS:
            raise ValueError(
                f"in_indices={list(self.in_indices)}: the searched graph joins exactly {NUM_LEVELS} maps (C3..C5 in "
                "the paper); choose three with in_indices"
            )
        self.num_extra_levels = integer("num_extra_levels", num_extra_levels, 0)
        check_layers(norm=norm, conv=conv, init=init)

        def cell(number: int, node: Node) -> nn.Module:
            steps = [GRAPH.level_of(source) - node.level for source in node.inputs]
            return JoiningCell(out_channels, steps, 1 if number in FIRST_CONV_ONLY else 2, norm, conv)

        nodes = [cell(number, node) for number, node in enumerate(GRAPH.nodes, start=NUM_LEVELS)]
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, 1, norm="BN", act="relu") for channels in self.used_channels
        )
        self.cell = GraphCell(GRAPH, nodes)
        extra = ExtraLevels(num_extra_levels, "conv", source="output") if num_extra_levels else None
        self.extra_levels = extra.build(out_channels, out_channels) if extra else None
        init_convs(self.cell, "kaiming_normal")
        self.init_outer(init)
        accept_layouts(self, (nas_fcos_fpn.mmdet(),), level_prefixes=("lateral_convs.", "extra_levels.", "cell."))

    def init_outer(self, init: str | None) -> None:
        """Initialize the convolutions outside the graph; see `init_convs`."""
        init_convs(self.lateral_convs, init)
        if self.extra_levels is not None:
            init_convs(self.extra_levels, init)

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs, both high to low resolution."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=True)]
        *merged, context = checkpointing.run(self.cell, laterals, checkpointed=self.gradient_checkpointing)
        fine = merged[0] + _bilinear(context, laterals[0])  # the second map has the first one's size, too
        middle = merged[1] + _bilinear(context, laterals[0])
        outputs = [fine, _bilinear(middle, laterals[1]), merged[2] + context]
        return outputs if self.extra_levels is None else outputs + self.extra_levels(inputs, laterals, outputs)


def _bilinear(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
