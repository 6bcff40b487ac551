"""Featurized image pyramid: one network applied to the image at several sizes.

::

    image x 2   --backbone--> C4 /16  =  stride 8 of the image
    image       --backbone--> C4 /16  =  stride 16
    image x 1/2 --backbone--> C4 /16  =  stride 32

Source: FPN (arXiv:1612.03144), figure 1 (a) and section 1. All levels are equally strong; the cost is about
``sum(scale ** 2)`` times that of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import integer, numbers
from ..features import FeatureSpec
from .base import Backbone, Part, keep_maps, stage_parts
from .build import build_part, register_backbone
from .layer_numbers import with_prefix

# scales are fractions of small numbers: 2, 1, 1/2, 2/3
MAX_DENOMINATOR = 16


@register_backbone
class ImagePyramid(Backbone):
    """Image pyramid: one map of the same backbone per scale of the image.

    Args:
        backbone: a backbone, or its ``{"type": ..., **arguments}`` mapping.
        scales: factors of the image's sides, descending; the image is resized bilinearly, with sides rounded up.
        index: position of the map among the backbone's maps; -1 is the last.
        frozen_stages: see `Backbone`; the stages are those of ``backbone``.

    Attributes:
        feature_specs: the map's channels at its stride divided by each scale.

    State dict: ``backbone.*``, without the layers that only the backbone's other maps need.

    Raises:
        ValueError: scales that do not descend or are not positive, a scale that gives a fractional stride, or ``index``
            out of range.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        scales: Sequence[float] = (2.0, 1.0, 0.5),
        index: int = -1,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        self.backbone, specs = build_part("backbone", backbone)
        self.expect_pixels_of(self.backbone)
        self.in_chans = getattr(self.backbone, "in_chans", None)
        self.scales = _check_scales(scales)
        if not -len(specs) <= integer("index", index) < len(specs):
            raise ValueError(f"index={index} must be a position among the backbone's {len(specs)} maps")
        self.index = index
        keep_maps(self.backbone, [range(len(specs))[index]])
        self.feature_specs = tuple(_scaled(specs[index], scale) for scale in self.scales)
        self.load_and_freeze(frozen_stages)

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the parts of the backbone."""
        return stage_parts(self.backbone)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to one map ``B C H/stride W/stride`` per scale, high to low resolution."""
        self.check_image(x)
        return self.complete([self.backbone(_resize(x, scale))[self.index] for scale in self.scales])

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the backbone."""
        layers, top = self.backbone.parameter_layers()
        return with_prefix("backbone", layers), top


def _resize(x: Tensor, scale: Fraction) -> Tensor:
    """Resize with integer arithmetic on the sides, so that any size can be traced."""
    if scale == 1:
        return x
    size = [(side * scale.numerator + scale.denominator - 1) // scale.denominator for side in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _check_scales(scales: Sequence[float]) -> tuple[Fraction, ...]:
    fractions = tuple(Fraction(scale).limit_denominator(MAX_DENOMINATOR) for scale in numbers("scales", scales))
    if not fractions or min(fractions) <= 0 or list(fractions) != sorted(set(fractions), reverse=True):
        raise ValueError(f"scales={list(scales)} must be positive and descend, e.g. (2, 1, 0.5)")
    return fractions


def _scaled(spec: FeatureSpec, scale: Fraction) -> FeatureSpec:
    stride = spec.stride / scale
    if stride.denominator != 1:
        raise ValueError(
            f"scale {float(scale):g} turns the stride {spec.stride} into {float(stride):g}; strides must be integers"
        )
    return FeatureSpec(spec.channels, int(stride))
