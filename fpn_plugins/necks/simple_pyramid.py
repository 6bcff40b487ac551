"""SimpleFeaturePyramid: Exploring Plain Vision Transformer Backbones (Li et al., arXiv:2203.16527, section 3).

::

    c4 /16 --deconv--LN--GELU--deconv--1x1--3x3--> p2
       |-----deconv--------------------1x1--3x3--> p3
       |-------------------------------1x1--3x3--> p4
       +-----2x2 max-pool--------------1x1--3x3--> p5 --> extra levels (p6)

A plain ViT has one map of one stride, so there is nothing to merge: every level is resampled from it independently.
Detectron2's class is a backbone that contains the ViT; this one is a neck, so it can follow any map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import Tensor, nn

from ..checks import numbers
from ..features import FeatureSpec
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, check_layers, init_convs
from ..ops import checkpointing
from ..ops.tracing import traced
from ..resampling import make_resample, scaled_strides
from ..weights import accept_layouts
from ..weights.maps.simple_pyramid import SimplePyramidLayouts
from .base import PyramidNeck
from .card import P6, VIT_B, NeckCard
from .extra_levels import ExtraLevels, extra_levels_of_outputs


class SimpleFeaturePyramid(PyramidNeck):
    """Pyramid from a single map of any size.

    Args:
        in_channels: channels of the map, as a list of one (``[s.channels for s in backbone.feature_specs]``).
        out_channels: channels of every output map.
        scale_factors: size of each level relative to the map, powers of two, each half of the previous one; see
            `make_resample`, called with ``halve_channels=True``.
        extra_levels: levels after the last one, as `ExtraLevels` or a mapping of its arguments, with
            ``source="output"``; ``ExtraLevels(1, "max_pool")`` is Detectron2's ``LastLevelMaxPool``.
        norm: norm after each convolution and between two deconvolutions; ``"LN"`` (paper), see `make_norm`.
        act: activation after each convolution; ``None`` as in the paper.
        conv: factory of the 1x1 and 3x3 convolutions; ``None`` for ``nn.Conv2d``.
        init: initialization of these convolutions: ``None`` for PyTorch's own (Detectron2), ``"kaiming_normal"``
            (mmdet's project); see `init_convs`.
        gradient_checkpointing: keep only the input for backward and recompute the maps.

    State dict: see `fpn_plugins.weights.maps.simple_pyramid`. The layouts of Detectron2 and mmdet's project load
    unchanged. The norms of mmdet's project have an ``eps`` of 1e-5, those of Detectron2 and this class 1e-6: pass a
    factory for the former.

    A factor below 1 rounds odd sizes down, as both peers do. Detectron2's class with ``norm=""`` cannot run at a factor
    of 4 (it calls the missing norm); this class omits the norm.

    Raises:
        ValueError: several maps, other factors, channels that cannot be halved often enough, or extra levels with
            another source.
    """

    card = NeckCard(
        idea="Every level is resampled independently from the one map of a plain ViT.",
        use_when="after a plain ViT: there is one map, so there is nothing to merge.",
        caveats="Not for hierarchical backbones, whose fine maps it would ignore.",
        paper="Yanghao Li, Hanzi Mao, Ross Girshick, Kaiming He: Exploring Plain Vision Transformer Backbones for "
        "Object Detection. ECCV 2022, arXiv:2203.16527",
        reference="detectron2 `modeling/backbone/vit.py`, mmdet `projects/ViTDet/vitdet/simple_fpn.py`",
        topology="""
               ViT | resampled           | 1×1     | output
            6:     |                     |         | P6 < P5
            5:     | R5 (pool /2) < C4   | M5 < R5 | P5 < 3×3: M5
            4: C4  | R4 (as it is) < C4  | M4 < R4 | P4 < 3×3: M4
            3:     | R3 (deconv ×2) < C4 | M3 < R3 | P3 < 3×3: M3
            2:     | R2 (deconv ×4) < C4 | M2 < R2 | P2 < 3×3: M2""",
        results=(
            "box AP 51.6, mask AP 45.9: Mask R-CNN ViT-B, MAE weights, 100 epochs, 1024 px (Detectron2's ViTDet)",
        ),
        in_specs=VIT_B,
        arguments=P6,
        example_specs=(FeatureSpec(16, 16),),
    )

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
        extra_levels: ExtraLevels | Mapping[str, object] | None = None,
        norm: str | NormFactory | None = "LN",
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        init: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, gradient_checkpointing=gradient_checkpointing)
        channels, *others = self.in_channels
        if others:
            raise ValueError(
                f"in_channels={list(in_channels)}: SimpleFeaturePyramid is built on one map; choose it with the "
                "backbone's out_indices (out_block_indices), or use FPN"
            )
        check_layers(norm=norm, act=act, conv=conv, init=init)
        self.scale_factors = _check_scale_factors(scale_factors)
        extra = extra_levels_of_outputs(extra_levels, type(self).__name__)
        self.num_extra_levels = extra.num_levels if extra else 0

        resamples = [make_resample(channels, scale, norm, halve_channels=True) for scale in self.scale_factors]
        self.resamples = nn.ModuleList(resamples)
        widths = [channels // scale.numerator for scale in self.scale_factors]
        self.lateral_convs = nn.ModuleList(
            ConvNormAct(width, out_channels, 1, norm=norm, act=act, conv=conv) for width in widths
        )
        self.output_convs = nn.ModuleList(
            ConvNormAct(out_channels, out_channels, 3, norm=norm, act=act, conv=conv) for _ in widths
        )
        self.extra_levels = extra.build(out_channels, out_channels, norm, act, conv) if extra else None
        init_convs(self, init)
        accept_layouts(self, SimplePyramidLayouts([len(layers) for layers in resamples]))

    def out_strides(self, strides: list[int]) -> list[int]:
        """Divide the map's stride by each factor.

        Raises:
            ValueError: a factor that does not divide the stride.
        """
        return scaled_strides(strides[0], self.scale_factors)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute one map ``B out_channels H*scale W*scale`` per factor, then the extra levels; see `Neck.forward`."""
        used = self.used(inputs)
        cells = [] if traced() else used[0].shape[-2:]
        if any(side * self.scale_factors[-1] < 1 for side in cells):
            raise ValueError(
                f"{type(self).__name__} cannot scale a map of {tuple(cells)} cells by {float(self.scale_factors[-1])}; "
                "pad images to a multiple of the coarsest stride, or leave out the smallest of scale_factors"
            )
        return tuple(checkpointing.run(self.pyramid, used, checkpointed=self.gradient_checkpointing))

    def pyramid(self, inputs: list[Tensor]) -> list[Tensor]:
        """Compute the outputs from the map, high to low resolution."""
        resampled = [layers(inputs[0]) for layers in self.resamples]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, resampled, strict=True)]
        outputs = [conv(x) for conv, x in zip(self.output_convs, laterals, strict=True)]
        if self.extra_levels is not None:
            outputs += self.extra_levels(inputs, laterals, outputs)
        return outputs


def _check_scale_factors(scale_factors: Sequence[float]) -> tuple[Fraction, ...]:
    scales = tuple(map(Fraction, numbers("scale_factors", scale_factors)))
    if (
        not scales
        or min(scales) <= 0
        or any(fine != 2 * coarse for fine, coarse in zip(scales, scales[1:], strict=False))
    ):
        raise ValueError(
            f"scale_factors={list(scale_factors)} must each be half of the previous one, e.g. (4, 2, 1, 0.5)"
        )
    return scales
