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

Reference code: mmdet ``models/necks/pafpn.py``, which leaves out the ReLU after each of the paper's convolutions; so do
we, unless ``bottom_up_act="relu"`` is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, init_convs
from .fpn import FPN


class PAFPN(FPN):
    """FPN with a second, bottom-up path, which brings the localisation of the fine levels to the coarse ones.

    Args:
        in_channels: channels of each input map, as for `FPN`.
        out_channels: channels of every output map.
        norm: norm after each convolution, of both paths.
        act: activation after each convolution, of both paths; ``None`` as in mmdet.
        conv: factory of every convolution.
        init: see `init_convs`.
        bottom_up_act: activation of the bottom-up path alone, in the place of ``act``: ``"relu"`` is the paper's.
        **arguments: the others of `FPN`. ``fusion`` and ``upsample_mode`` are of the top-down path, the bottom-up path
            adds; extra levels with ``source="output"`` read the last output of the bottom-up path.

    State dict: that of `FPN`, and ``downsample_convs.<i>``, ``bottom_up_convs.<i>``, ``i`` counting the steps of the
    bottom-up path. mmdet's layout loads as it is.

    Raises:
        ValueError: an argument outside of the above.
        TypeError: an argument that `FPN` does not have.
    """

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

    def bottom_up(self, maps: list[Tensor]) -> list[Tensor]:
        """The second path, over the outputs of the first: ``B out_channels H W``, high to low resolution."""
        aggregated = [maps[0]]
        for index, downsample in enumerate(self.downsample_convs):
            aggregated.append(maps[index + 1] + downsample(aggregated[index]))
        for index, conv in enumerate(self.bottom_up_convs):
            aggregated[index + 1] = conv(aggregated[index + 1])
        return aggregated
