"""HRFPN, the pyramid of HRNet: High-Resolution Representations for Labeling Pixels and Regions (arXiv:1904.04514).

::

    c2 /4  -----------+                  +-----------3x3--> p2
    c3 /8  --bilinear-+                  +--pool 2---3x3--> p3
    c4 /16 --bilinear-+--concat--1x1--m--+--pool 4---3x3--> p4
    c5 /32 --bilinear-+                  +--pool 8---3x3--> p5
                                         +--pool 16--3x3--> p6

Deliberate differences: mmdet multiplies the sizes by powers of two, and fails where a map is not exactly that much
smaller; this class resizes to the size of the finest map. A map smaller than a pooling window is pooled whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import one_of, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops.pooling import avg_pool2d, max_pool2d
from ..ops.tracing import traced
from ..weights import accept_layouts
from ..weights.maps import hrfpn
from .base import ListNeck
from .card import NeckCard

POOLINGS = ("avg", "max")


class HRFPN(ListNeck):
    """Pyramid by pooling one map, which joins all maps of the backbone at the finest resolution.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`.
        num_levels: number of outputs.
        pooling: ``"avg"`` or ``"max"``; sizes are rounded down, as in mmdet.
        stride: step of the output convolutions; 2 begins the pyramid at P3.
        norm: norm after each convolution, see `make_norm`.
        act: activation after each convolution, see `make_act`.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; ``"caffe2_xavier"`` in mmdet.
        gradient_checkpointing: keep only the inputs for backward, and recompute the maps between them and the outputs.

    State dict: ``reduction_conv``, ``output_convs.<i>``, each with ``conv.*`` and ``norm.*``. mmdet's layout loads
    unchanged.

    Raises:
        ValueError: an argument outside the values above.
    """

    card = NeckCard(
        idea="All maps are joined at the finest resolution, and the pyramid is that map, pooled.",
        use_when="after HRNet, whose four branches have exchanged everything already.",
        caveats="The joined map is the largest of all necks here: its memory and 1x1 convolution are those of P2 with "
        "all channels. Without a top-down path, after a ResNet coarse maps only add to fine ones.",
        paper="Ke Sun, Yang Zhao, Borui Jiang, Tianheng Cheng, Bin Xiao, Dong Liu, Yadong Mu, Xinggang Wang, Wenyu "
        "Liu, Jingdong Wang: High-Resolution Representations for Labeling Pixels and Regions. arXiv 2019, "
        "arXiv:1904.04514",
        reference="mmdet `models/necks/hrfpn.py`",
        topology="""
               backbone | joined                          | pooled       | output
            6:          |                                 | M6 (/16) < M2 | P6 < 3×3: M6
            5: C5       |                                 | M5 (/8) < M2  | P5 < 3×3: M5
            4: C4       |                                 | M4 (/4) < M2  | P4 < 3×3: M4
            3: C3       |                                 | M3 (/2) < M2  | P3 < 3×3: M3
            2: C2       | M2 (concat, 1×1) < C2 C3 C4 C5  |               | P2 < 3×3: M2""",
        results=("box AP 40.2: Faster R-CNN HRNetV2p-W32, 12 epochs (mmdet model zoo)",),
        example_arguments={"out_channels": 32, "num_levels": 4},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_levels: int = 5,
        in_indices: Sequence[int] | None = None,
        pooling: str = "avg",
        stride: int = 1,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = "caffe2_xavier",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        self.num_levels = positive_int("num_levels", num_levels)
        self.pooling = one_of("pooling", pooling, POOLINGS)
        self.stride = positive_int("stride", stride)
        self.reduction_conv = ConvNormAct(sum(self.used_channels), out_channels, 1, norm=norm, act=act, conv=conv)
        self.output_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, stride, norm=norm, act=act, conv=conv) for _ in range(num_levels)
        )
        init_convs(self, init)
        accept_layouts(self, (hrfpn.mmdet(),), ("output_convs.",))

    def out_strides(self, strides: list[int]) -> list[int]:
        """Return the strides of the outputs, powers of two times that of the finest used map."""
        return [strides[0] * self.stride * 2**level for level in range(self.num_levels)]

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs; TorchScript compiles this method and those it calls."""
        size = [inputs[0].shape[-2], inputs[0].shape[-1]]
        resized = [inputs[0]]
        for x in inputs[1:]:
            resized.append(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        joined = self.reduction_conv(torch.cat(resized, dim=1))
        return [conv(self.pool(joined, 1 << level)) for level, conv in enumerate(self.output_convs)]

    def pool(self, x: Tensor, window: int) -> Tensor:
        """Map ``B C H W`` to ``B C H/window W/window``, rounded down but not to zero."""
        if window == 1:
            return x
        sides = [window, window]
        if not torch.jit.is_scripting():
            if not traced():
                sides = [min(window, x.shape[-2]), min(window, x.shape[-1])]
            pair = (sides[0], sides[1])
            return avg_pool2d(x, pair) if self.pooling == "avg" else max_pool2d(x, pair, pair)
        if self.pooling == "max":
            return F.max_pool2d(x, sides, sides)
        return F.avg_pool2d(x, sides, sides)
