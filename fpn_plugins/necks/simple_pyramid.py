"""SimpleFeaturePyramid: Exploring Plain Vision Transformer Backbones (Li et al., arXiv:2203.16527, section 3).

::

    c4 /16 --deconv--LN--GELU--deconv--1x1--3x3--> p2
       |-----deconv--------------------1x1--3x3--> p3
       |-------------------------------1x1--3x3--> p4
       +-----2x2 max-pool--------------1x1--3x3--> p5 --> extra levels (p6)

A plain ViT has one map of one stride, so there is nothing to merge: every level is resampled from it on its own.
Reference code: detectron2 ``modeling/backbone/vit.py``; mmdet ``projects/ViTDet/vitdet/simple_fpn.py``. detectron2's is
a backbone that holds the ViT; this one is a neck, so that it stands behind any map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch import Tensor, nn

from ..features import FeatureSpec, check_channels, check_in_channels, check_specs
from ..layers import ActFactory, ConvFactory, ConvNormAct, NormFactory, init_convs
from ..ops import checkpointing
from ..resampling import make_resample
from ..weights import accept_layouts
from ..weights.maps.simple_pyramid import SimplePyramidLayouts
from .extra_levels import ExtraLevels, as_extra_levels


class SimpleFeaturePyramid(nn.Module):
    """Pyramid from a single map.

    Args:
        in_channels: channels of the map, as a list of one (``[s.channels for s in backbone.feature_specs]``).
        out_channels: channels of every output map.
        scale_factors: size of each level relative to the map, powers of two, each half of the one before. Each doubling
            is a 2x2 transposed convolution of stride 2 that halves the channels; levels below 1 are max-pooled.
        extra_levels: levels after the last one, an `ExtraLevels` (or a mapping of its arguments) with
            ``source="output"``; ``ExtraLevels(1, "max_pool")`` is detectron2's ``LastLevelMaxPool``.
        norm: norm after each convolution and between two deconvolutions; ``"LN"`` (paper), see `make_norm`.
        act: activation after each convolution; ``None`` as in the paper.
        conv: factory of the 1x1 and 3x3 convolutions, ``None`` is ``nn.Conv2d``.
        init: of the 1x1 and 3x3 convolutions: ``None``, PyTorch's own (detectron2), ``"kaiming_normal"`` (mmdet's
            project); see `init_convs`.
        gradient_checkpointing: keep the input alone for the backward pass, and compute the maps again there.

    State dict: ``resamples.<i>``, ``lateral_convs.<i>``, ``output_convs.<i>``, ``extra_levels.convs.<k>``. The layouts
    of detectron2 (``simfp_<s>``) and of mmdet's project load as they are. mmdet's project trains with an ``eps`` of
    1e-5 in its norms, detectron2 and this class with 1e-6: pass a factory for the former.

    A level below 1 rounds odd sizes down, as both peers do. detectron2's class with ``norm=""`` cannot run at a scale
    of 4 (it calls the missing norm); here the norm is left out.

    Raises:
        ValueError: several maps, scales that are not such powers of two, channels that cannot be halved often enough,
            or extra levels that would not follow the last one.
    """

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
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.in_channels = _check_one_map(in_channels)
        self.out_channels = out_channels
        self.scale_factors = _check_scale_factors(scale_factors)
        extra = _check_extra_levels(as_extra_levels(extra_levels))
        self.num_extra_levels = extra.num_levels if extra else 0

        (channels,) = self.in_channels
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

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Channels and strides of the outputs for a backbone that publishes ``in_specs``.

        Raises:
            ValueError: not one map of the channels that this neck was built for, or a stride that a scale does not
                divide.
        """
        check_specs(in_specs, self.in_channels, type(self).__name__)
        exact = [in_specs[0].stride / scale for scale in self.scale_factors]
        if any(stride.denominator != 1 for stride in exact):
            raise ValueError(
                f"scale_factors={[float(scale) for scale in self.scale_factors]} make strides below 1 of the map's "
                f"{in_specs[0].stride}; leave out the largest"
            )
        strides = [int(stride) for stride in exact]
        strides += [strides[-1] * 2 ** (k + 1) for k in range(self.num_extra_levels)]
        return tuple(FeatureSpec(self.out_channels, stride) for stride in strides)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            inputs: one map ``B C H W`` of any size.

        Returns:
            One map ``B out_channels H*scale W*scale`` per scale, high to low resolution, then the extra levels.

        Raises:
            ValueError: another number of maps or channels than the neck was built for.
        """
        check_channels(inputs, self.in_channels, type(self).__name__)
        return checkpointing.run(self._maps, inputs, checkpointed=self.gradient_checkpointing)

    def _maps(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        resampled = [layers(inputs[0]) for layers in self.resamples]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, resampled, strict=True)]
        outputs = [conv(x) for conv, x in zip(self.output_convs, laterals, strict=True)]
        if self.extra_levels is not None:
            outputs += self.extra_levels(inputs, laterals, outputs)
        return tuple(outputs)


def _check_one_map(in_channels: Sequence[int]) -> tuple[int, ...]:
    channels = check_in_channels(in_channels)
    if len(channels) != 1:
        raise ValueError(
            f"in_channels={list(channels)}: SimpleFeaturePyramid is built on one map; choose it with the backbone's "
            "out_indices (out_block_indices), or use FPN"
        )
    return channels


def _check_scale_factors(scale_factors: Sequence[float]) -> tuple[Fraction, ...]:
    scales = tuple(Fraction(scale) for scale in scale_factors)
    if not scales or any(fine != 2 * coarse for fine, coarse in zip(scales, scales[1:], strict=False)):
        raise ValueError(
            f"scale_factors={list(scale_factors)} must each be half of the one before, e.g. (4, 2, 1, 0.5)"
        )
    return scales


def _check_extra_levels(extra: ExtraLevels | None) -> ExtraLevels | None:
    if extra is not None and extra.source != "output":
        raise ValueError(
            f"extra_levels source={extra.source!r}: the levels of SimpleFeaturePyramid are resampled from one map, so "
            "that only an output has the resolution that an extra level follows; use source='output'"
        )
    return extra
