"""PAFPN: Path Aggregation Network for Instance Segmentation (Liu et al., CVPR 2018, arXiv:1803.01534, section 3.1).

::

    m5 --3x3--> t5 -----------------(+)--3x3--> p5 --> extra levels
    |                                ^ 3x3, stride 2
    m4 --3x3--> t4 -----------------(+)--3x3--> p4
    |                                ^ 3x3, stride 2
    m3 --3x3--> t3 -----------------(+)--3x3--> p3
    |                                ^ 3x3, stride 2
    m2 --3x3--> t2 = p2 -------------+

    top-down (FPN)                  bottom-up

mmdet omits the ReLU after each of the paper's convolutions; so does this class, unless ``bottom_up_act="relu"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from .base import check_halving
from .card import P6, NeckCard
from .fpn import FPN


class PAFPN(FPN):
    """FPN with a second, bottom-up path that carries the localization of the fine levels to the coarse ones.

    Arguments and errors are those of `FPN`; ``norm``, ``act``, ``conv`` and ``init`` apply to both paths. ``fusion``
    and ``upsample_mode`` apply to the top-down path only, since the bottom-up path adds. Extra levels with
    ``source="output"`` read the last output of the bottom-up path.

    Args:
        bottom_up_act: activation of the bottom-up path instead of ``act``; ``"relu"`` is the paper's.

    State dict: that of `FPN`, plus ``downsample_convs.<i>``, ``bottom_up_convs.<i>``, ``i`` counting the steps of the
    bottom-up path. mmdet's layout loads unchanged.
    """

    card = NeckCard(
        idea="FPN, then a second, bottom-up path that carries the localization of fine maps to coarse ones.",
        use_when="when large objects are found but their boxes are loose, and the time budget allows it.",
        caveats="In mmdet's comparison it gains 0.1 AP over FPN, about what two runs of one config differ by. PANet's "
        "published gain includes adaptive pooling and other heads.",
        paper="Shu Liu, Lu Qi, Haifang Qin, Jianping Shi, Jiaya Jia: Path Aggregation Network for Instance "
        "Segmentation. CVPR 2018, arXiv:1803.01534",
        reference="mmdet `models/necks/pafpn.py`",
        topology="""
               backbone | top-down            | 3×3          | bottom-up      | output
            6:          |                     |              |                | P6 < P5
            5: C5       | M5 < 1×1: C5        | T5 < 3×3: M5 | N5 (+) < T5 N4 | P5 < 3×3: N5
            4: C4       | M4 (+) < 1×1: C4 M5 | T4 < 3×3: M4 | N4 (+) < T4 N3 | P4 < 3×3: N4
            3: C3       | M3 (+) < 1×1: C3 M4 | T3 < 3×3: M3 | N3 (+) < T3 N2 | P3 < 3×3: N3
            2: C2       | M2 (+) < 1×1: C2 M3 | T2 < 3×3: M2 | N2 < T2        | P2 < N2""",
        results=("box AP 37.5 (FPN: 37.4): Faster R-CNN R50, 12 epochs (mmdet model zoo)",),
        arguments=P6,
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        bottom_up_act: str | ActFactory | None = None,
        **arguments: Any,
    ) -> None:
        check_layers(bottom_up_act=bottom_up_act)
        super().__init__(in_channels, out_channels, norm=norm, act=act, conv=conv, init=init, **arguments)

        def path(stride: int) -> nn.ModuleList:
            return nn.ModuleList(
                ConvNormAct(out_channels, out_channels, 3, stride, norm=norm, act=bottom_up_act or act, conv=conv)
                for _ in range(len(self.output_convs) - 1)
            )

        self.downsample_convs = path(stride=2)
        self.bottom_up_convs = path(stride=1)
        init_convs(self.downsample_convs, init)
        init_convs(self.bottom_up_convs, init)

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward`, and return those at ``in_indices``.

        Raises:
            ValueError: also for a map that is not half as large as the previous one, rounded up.
        """
        used = super().used(inputs)
        check_halving(used, type(self).__name__)
        return used

    def bottom_up(self, maps: list[Tensor]) -> list[Tensor]:
        """Run the second path on the outputs of the first; maps ``B out_channels H W``, high to low resolution."""
        aggregated = [maps[0]]
        for index, downsample in enumerate(self.downsample_convs):
            aggregated.append(maps[index + 1] + downsample(aggregated[index]))
        for index, conv in enumerate(self.bottom_up_convs):
            aggregated[index + 1] = conv(aggregated[index + 1])
        return aggregated
