"""ChannelMapper: one convolution per map, as in Deformable DETR (Zhu et al., ICLR 2021, arXiv:2010.04159, section A.4).

::

    c5 /32 --1x1, GN--> p5       --3x3, stride 2, GN--> p6   (reads c5)
    c4 /16 --1x1, GN--> p4
    c3 /8  --1x1, GN--> p3

Maps do not exchange anything: the detector's attention does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..checks import boolean, positive_int
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, make_conv, with_bias
from ..weights import accept_layouts
from ..weights.maps import channel_mapper
from .base import ListNeck
from .card import C3_TO_C5, NeckCard
from .extra_levels import ExtraLevels, as_extra_levels

C6 = {"num_levels": 1, "op": "conv", "source": "input", "relu": False, "bare": False}


class ChannelMapper(ListNeck):
    """Bring each map to the same channels by one convolution, without a top-down path.

    Args:
        in_channels, out_channels, in_indices: see `PyramidNeck`.
        kernel_size: side of the kernels in cells, odd; 1 in Deformable DETR and DINO.
        extra_levels: levels after the last one, as `ExtraLevels` or a mapping of its arguments; Deformable DETR and
            DINO have ``{"num_levels": 1, "op": "conv", "source": "input", "relu": False, "bare": False}``.
        norm: norm after each convolution, see `make_norm`; ``"GN"`` in Deformable DETR and DINO, ``None`` in DETR.
        act: activation after each convolution, see `make_act`.
        conv: factory of every convolution; ``None`` for ``nn.Conv2d``.
        bias: whether the convolutions have a bias; ``None``: exactly those without a norm.
        init: see `init_convs`.
        gradient_checkpointing: keep only the inputs for backward, and recompute the maps between them and the outputs.

    The inputs can have any sizes. Deliberate difference: mmdet also takes even kernels, which make a map smaller.

    State dict: ``convs.<i>``, ``extra_levels.convs.<k>``, each with ``conv.*`` and ``norm.*``. mmdet's layout loads
    unchanged.

    Raises:
        ValueError: an even kernel, or ``in_top_down`` extra levels.
    """

    card = NeckCard(
        idea="One convolution per map brings all maps to the same channels; nothing is merged.",
        use_when="with DETR's relatives (Deformable DETR, DINO), whose encoder merges the levels by attention.",
        caveats="Not for detectors with convolutional heads: fine levels lack semantics.",
        paper="Xizhou Zhu, Weijie Su, Lewei Lu, Bin Li, Xiaogang Wang, Jifeng Dai: Deformable DETR: Deformable "
        "Transformers for End-to-End Object Detection. ICLR 2021, arXiv:2010.04159",
        reference="mmdet `models/necks/channel_mapper.py`, Deformable DETR `models/deformable_detr.py` (`input_proj`)",
        topology="""
               backbone | output
            6:          | P6 < 3×3: C5
            5: C5       | P5 < 1×1: C5
            4: C4       | P4 < 1×1: C4
            3: C3       | P3 < 1×1: C3""",
        results=(
            "box AP 44.3: Deformable DETR R50, 50 epochs (mmdet model zoo)",
            "box AP 49.0: DINO R50, 4 scales, 12 epochs (mmdet model zoo)",
        ),
        in_specs=C3_TO_C5,
        arguments={"extra_levels": C6},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        in_indices: Sequence[int] | None = None,
        kernel_size: int = 1,
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        norm: str | NormFactory | None = "GN",
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        bias: bool | None = None,
        init: str | None = "xavier_uniform",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, in_indices, gradient_checkpointing)
        check_layers(norm=norm, act=act, conv=conv, init=init)
        if positive_int("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that a map keeps its size")
        extra = as_extra_levels(extra_levels)
        if extra is not None and extra.in_top_down:
            raise ValueError("ChannelMapper has no top-down path for extra_levels with in_top_down=True; leave it out")
        self.num_extra_levels = extra.num_levels if extra else 0
        chosen = make_conv(conv) if bias is None else with_bias(conv, boolean("bias", bias))
        self.convs = nn.ModuleList(
            ConvNormAct(channels, out_channels, kernel_size, norm=norm, act=act, conv=chosen)
            for channels in self.used_channels
        )
        self.extra_levels = extra.build(self.used_channels[-1], out_channels, norm, act, chosen) if extra else None
        init_convs(self, init)
        accept_layouts(self, (channel_mapper.mmdet(),), ("convs.", "extra_levels."))

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the used inputs; TorchScript compiles this method."""
        outputs = [conv(inputs[index]) for index, conv in enumerate(self.convs)]
        if self.extra_levels is not None:
            outputs += self.extra_levels(inputs, outputs, outputs)
        return outputs
