"""MultiScaleProjector: LW-DETR (Chen et al., arXiv:2406.03459, section 3.1), also the neck of RF-DETR.

::

    block  3 --+
    block  6 --+--each: deconv-----------concat--C2f--LN--> p3
    block  9 --+--each: as it is---------concat--C2f--LN--> p4
    block 12 --+--each: 3x3, stride 2----concat--C2f--LN--> p5 --> extra levels
      all /16

The maps of several depths of a plain ViT have one stride. Each level resamples all of them by layers of its own, joins
them, and mixes them in a CSP layer (`C2f`); levels do not read each other.

Deliberate differences: LW-DETR's P6 (a scale of 0.25) stops with an error in its code and in RF-DETR's; here it is an
extra level, the pooled P5 that both mean. RF-DETR's random dropping of depths in training is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import integer, numbers, positive_int
from ..features import FeatureSpec
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs, make_norm
from ..ops import checkpointing
from ..ops.tracing import traced
from ..resampling import make_resample, scaled_strides
from ..weights import accept_layouts
from ..weights.maps import multi_scale_projector
from .base import PyramidNeck
from .card import P6, VIT_B, NeckCard
from .csp import C2f
from .extra_levels import ExtraLevels, extra_levels_of_outputs


class MultiScaleProjector(PyramidNeck):
    """Pyramid from maps of one stride, such as those of several depths of a plain ViT.

    Args:
        in_channels: channels of each map, in the order of the backbone.
        out_channels: channels of every output map; at least 2.
        scale_factors: size of each level relative to the maps, powers of two from 1/2 on, in descending order. LW-DETR
            has ``(1,)`` (tiny to medium) and ``(2, 0.5)`` (large, xlarge), RF-DETR ``(1,)`` and ``(2, 0.5)``.
        num_blocks: bottlenecks in each `C2f`.
        extra_levels: levels after the last one, as `ExtraLevels` or a mapping of its arguments, with
            ``source="output"``.
        squeeze_above: maps with more channels than this are halved by a 1x1 convolution before they are doubled; 512 in
            LW-DETR, ``None`` (never) in RF-DETR.
        norm: norm after each convolution: ``"LN"`` (RF-DETR), ``"BN"`` (LW-DETR), see `make_norm`.
        output_norm: norm of each level, and between two deconvolutions; ``"LN"`` in both.
        act: activation after each convolution of the `C2f`.
        resample_act: activation after the convolutions that halve a map's size or channels.
        conv: factory of the convolutions; ``None`` for ``nn.Conv2d``.
        init: see `init_convs`; ``None`` for PyTorch's own, as in both.
        gradient_checkpointing: keep only the inputs for backward, and recompute level by level.

    LW-DETR's projector is ``norm="BN", squeeze_above=512``; the defaults are RF-DETR's.

    The maps can have any size, the same for all; a level of half the size rounds it up.

    State dict: see `fpn_plugins.weights.maps.multi_scale_projector`. The layout of LW-DETR and RF-DETR loads unchanged,
    without the prefix that it has in their detectors (``strip_prefix(weights, "backbone.0.projector.")``).

    Raises:
        ValueError: other factors, channels that cannot be halved often enough, extra levels with another source, or
            maps of different strides or sizes.
    """

    card = NeckCard(
        idea="Every level resamples the maps of several depths of a plain ViT, joins them and mixes them in a CSP "
        "layer.",
        use_when="after a plain ViT whose maps of several depths are at hand (`ViT(out_block_indices=...)`), with "
        "DETR-like heads or few levels.",
        caveats="It works at the sum of the maps' channels: five times the parameters of the simple pyramid. "
        "Not for hierarchical backbones, whose maps differ in stride.",
        paper="Qiang Chen, Xiangbo Su, Xinyu Zhang, Jian Wang, Jiahui Chen, Yunpeng Shen, Chuchu Han, Ziliang Chen, "
        "Weixiang Xu, Fanrong Li, Shan Zhang, Kun Yao, Errui Ding, Gang Zhang, Jingdong Wang: LW-DETR: A Transformer "
        "Replacement to YOLO for Real-Time Detection. arXiv 2024, arXiv:2406.03459",
        reference="LW-DETR `models/backbone/projector.py`, RF-DETR `rfdetr/models/backbone/projector.py`",
        topology="""
               ViT           | each depth, resampled | joined                 | output
            6:               |                       |                        | P6 < P5
            5:               | R5 (3×3 /2) < C4      | M5 (concat, C2f) < R5  | P5 < LN: M5
            4: C4 (4 depths) | R4 (as it is) < C4    | M4 (concat, C2f) < R4  | P4 < LN: M4
            3:               | R3 (deconv ×2) < C4   | M3 (concat, C2f) < R3  | P3 < LN: M3""",
        results=("box AP 56.1: LW-DETR-large, ViT-S of 10 blocks, Objects365 weights, 60 epochs, 640 px (LW-DETR)",),
        in_specs=4 * VIT_B,
        arguments=P6,
        example_specs=(FeatureSpec(8, 16), FeatureSpec(16, 16)),
        example_arguments={"out_channels": 32, "scale_factors": (2.0, 0.5), "num_blocks": 1, "squeeze_above": 8},
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        scale_factors: Sequence[float] = (2.0, 1.0, 0.5),
        num_blocks: int = 3,
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        squeeze_above: int | None = None,
        norm: str | NormFactory | None = "LN",
        output_norm: str | NormFactory | None = "LN",
        act: str | ActFactory | None = "silu",
        resample_act: str | ActFactory | None = "relu",
        conv: ConvFactory | None = None,
        init: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, gradient_checkpointing=gradient_checkpointing)
        integer("out_channels", out_channels, 2)
        integer("num_blocks", num_blocks, 0)
        check_layers(norm=norm, output_norm=output_norm, act=act, resample_act=resample_act, conv=conv, init=init)
        self.scale_factors = _check_scale_factors(scale_factors)
        squeezed = math.inf if squeeze_above is None else positive_int("squeeze_above", squeeze_above)
        extra = extra_levels_of_outputs(extra_levels, type(self).__name__)
        self.num_extra_levels = extra.num_levels if extra else 0

        self.resamples, self.blocks, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for scale in self.scale_factors:
            joined, resamples = 0, nn.ModuleList()
            for channels in self.in_channels:
                narrowed = channels // 2 if scale == 2 and channels > squeezed else channels
                _check_halvings(channels, channels // narrowed, scale)
                joined += narrowed // scale.numerator
                layers: list[nn.Module] = []
                if scale < 1:
                    layers.append(ConvNormAct(channels, channels, 3, 2, norm, resample_act, conv))
                elif narrowed < channels:
                    layers.append(ConvNormAct(channels, narrowed, 1, norm=norm, act=resample_act, conv=conv))
                if scale > 1:
                    layers += make_resample(narrowed, scale, output_norm, halve_channels=True)
                resamples.append(nn.Sequential(*layers))
            self.resamples.append(resamples)
            self.blocks.append(C2f(joined, out_channels, num_blocks, norm=norm, act=act, conv=conv))
            self.norms.append(make_norm(output_norm, out_channels, "output_norm") or nn.Identity())
        self.extra_levels = extra.build(out_channels, out_channels, norm, act, conv) if extra else None
        init_convs(self, init)
        accept_layouts(self, (multi_scale_projector.lw_detr(),), ("resamples.", "blocks.", "norms."))

    def out_strides(self, strides: list[int]) -> list[int]:
        """Divide the stride of the maps by each factor.

        Raises:
            ValueError: maps of several strides, or a factor that does not divide the stride.
        """
        if len(set(strides)) > 1:
            raise ValueError(
                f"{type(self).__name__} joins maps of one stride, but the maps have strides {strides}; take several "
                "blocks of a plain ViT (its out_block_indices), or use FPN"
            )
        return scaled_strides(strides[0], self.scale_factors)

    def used(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Check the inputs of `forward`, and return them.

        Raises:
            ValueError: also for maps of different sizes.
        """
        used = super().used(inputs)
        sizes = [] if traced() else [tuple(x.shape[-2:]) for x in used]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"{type(self).__name__} joins maps of one size, but the maps have {sizes} cells; take several blocks "
                "of a plain ViT (its out_block_indices)"
            )
        return used

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the maps, high to low resolution."""
        levels = range(len(self.blocks))
        outputs = [
            checkpointing.run(self.level, index, inputs, checkpointed=self.gradient_checkpointing) for index in levels
        ]
        if self.extra_levels is not None:
            outputs += self.extra_levels(inputs, outputs, outputs)
        return outputs

    def level(self, index: int, inputs: Sequence[Tensor]) -> Tensor:
        """Compute one level, ``B out_channels H*scale W*scale``, from all maps ``B C H W``."""
        resamples: Any = self.resamples[index]
        resampled = [layers(x) for layers, x in zip(resamples, inputs, strict=True)]
        return self.norms[index](self.blocks[index](torch.cat(resampled, dim=1)))


def _check_scale_factors(scale_factors: Sequence[float]) -> tuple[Fraction, ...]:
    scales = tuple(map(Fraction, numbers("scale_factors", scale_factors)))
    powers = (Fraction(2) ** k for k in range(-1, 5))
    if not scales or not set(scales) <= set(powers) or any(fine <= coarse for fine, coarse in pairwise(scales)):
        raise ValueError(
            f"scale_factors={list(scale_factors)} must be powers of two from 16 to 1/2, in descending order, e.g. "
            "(2, 1, 0.5); smaller levels are extra_levels"
        )
    return scales


def _check_halvings(channels: int, squeezing: int, scale: Fraction) -> None:
    if channels % (squeezing * scale.numerator):
        raise ValueError(
            f"in_channels={channels} of a map cannot be halved for each doubling of scale {scale}; they must be a "
            f"multiple of {squeezing * scale.numerator}"
        )
