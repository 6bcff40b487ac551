"""Put convolutions on the image beside a plain Vision Transformer: the ViT's maps get details that its patches lack.

::

    image --3x3/2--norm--GELU--3x3 max-pool/2--3x3/2--norm--> d3 --GELU--3x3/2--norm--> d4 --GELU--3x3/2--norm--> d5
    image --blocks 1..6-- /16 --bilinear x2---> v3,  --blocks 7..9-- /16 --> v4,  --blocks 10..12-- /16 --x1/2--> v5
    c3, c4, c5 = norm(1x1(concat(v, d))) at strides 8, 16, 32

Source: the Spatial Tuning Adapter of DEIMv2 (Huang et al., arXiv:2509.20787, section 3), which gives a plain ViT the
maps of a convolutional network for its DETR. Reference code: DEIMv2 ``engine/backbone/dinov3_adapter.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import positive_int
from ..features import FeatureSpec
from ..layers import ActFactory, ConvNormAct, NormFactory, check_layers, make_act
from ..ops.cropping import crop, pad_to_cells
from ..ops.pooling import MaxPool2d
from ..ops.windows import windows_along
from ..weights import redirect_keys
from ..weights.input_channels import accept_color_images
from ..weights.maps import spatial_tuning
from .base import Backbone, Part, keep_maps, stage_parts, unread_map
from .build import build_part, register_backbone
from .layer_numbers import with_prefix

STRIDES = (8, 16, 32)
CELL = STRIDES[-1]
# channels of the convolutions over `detail_channels`
WIDTHS = (1, 2, 4, 4)


@register_backbone
class SpatialTuningAdapter(Backbone):
    """Plain ViT and convolutions side by side as a backbone with the strides 8, 16 and 32.

    Args:
        vit: a backbone with maps of one stride, or its ``{"type": ..., **arguments}`` mapping:
            ``{"type": "ViT", "name": "vit_small_patch16_dinov3", "out_block_indices": (5, 8, 11)}`` is DEIMv2-L's.
            Three maps become C3, C4 and C5, in this order; a single map becomes all three.
        detail_channels: channels of the first convolution; the others have 2, 4 and 4 times as many. DEIMv2-S and M
            have 16, L 32, X 64.
        out_channels: channels of every map; ``None`` for those of the ViT's last map. DEIMv2-L has 224.
        norm: norm after each convolution, see `make_norm`; ``"SyncBN"`` in DEIMv2, of which ``"BN"`` differs in
            distributed training alone.
        act: activation between the convolutions on the image.
        frozen_stages: see `Backbone`; the stages are those of ``vit``. The convolutions are trained always.
        checkpoint: see `Backbone`; the adapter's weights with those of its ViT. For the ViT's alone, use the
            ``checkpoint`` or ``pretrained`` of ``vit``.

    Attributes:
        feature_specs: ``out_channels`` at strides 8, 16 and 32.

    Images can have any size: they are zero-padded on the right and at the bottom to a multiple of 32, and each map is
    cropped to ``ceil(side / stride)``. DEIMv2's code takes multiples of 32 only.

    State dict: ``vit.*``, ``detail_convs.<k>.*``, ``fusion_convs.<i>.*``; DEIMv2's names load unchanged, without the
    prefix ``backbone.``, if ``vit`` takes those of its ViT; see `fpn_plugins.weights.maps.spatial_tuning`.

    Raises:
        ValueError: a ViT with two maps or more than three, of several strides, or of a stride that does not divide 32.
    """

    def __init__(
        self,
        vit: nn.Module | Mapping[str, Any],
        detail_channels: int = 16,
        out_channels: int | None = None,
        norm: str | NormFactory | None = "BN",
        act: str | ActFactory | None = "gelu",
        frozen_stages: int = -1,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        positive_int("detail_channels", detail_channels)
        check_layers(norm=norm, act=act)
        self.vit, specs = build_part("vit", vit)
        self.expect_pixels_of(self.vit)
        self.in_chans = getattr(self.vit, "in_chans", None)
        depths = _check_depths(specs)
        self.vit_stride = depths[0].stride
        width = depths[-1].channels if out_channels is None else positive_int("out_channels", out_channels)
        self.feature_specs = tuple(FeatureSpec(width, stride) for stride in STRIDES)
        widths = [self.in_chans or 3, *(detail_channels * times for times in WIDTHS)]
        self.detail_convs = nn.ModuleList(ConvNormAct(*step, 3, stride=2, norm=norm) for step in pairwise(widths))
        self.act = make_act(act) or nn.Identity()
        self.pool = MaxPool2d(3, stride=2, padding=1)
        self.fusion_convs = nn.ModuleList(
            ConvNormAct(depth.channels + details, width, 1, norm=norm)
            for depth, details in zip(depths, widths[2:], strict=True)
        )
        redirect_keys(self, spatial_tuning.deimv2())
        accept_color_images(self, ["detail_convs.0.conv.weight"], widths[0])
        self.load_and_freeze(frozen_stages, checkpoint)

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the parts of the ViT."""
        return stage_parts(self.vit)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per stride, rounded up."""
        self.check_image(x)
        height, width = x.shape[-2:]
        x = pad_to_cells(x, CELL)
        rows, columns = windows_along(height, CELL), windows_along(width, CELL)
        depths, maps = self.vit(x), []
        for position, details in enumerate(self.details(x)):
            channels, stride = self.feature_specs[position]
            size = windows_along(height, stride), windows_along(width, stride)
            if isinstance(self.fusion_convs[position], nn.Identity):
                maps.append(unread_map(details, channels, *size))
                continue
            depth = depths[position if len(depths) > 1 else 0]
            if stride != self.vit_stride:
                whole = rows * (CELL // stride), columns * (CELL // stride)
                depth = F.interpolate(depth, whole, mode="bilinear", align_corners=False)
            maps.append(crop(self.fusion_convs[position](torch.cat((depth, details), dim=1)), size))
        return self.complete(maps)

    def details(self, x: Tensor) -> list[Tensor]:
        """Convolve images ``B in_chans H W`` to maps ``B C H/stride W/stride``, high to low resolution."""
        stem, first, *others = self.detail_convs
        maps = [first(self.pool(self.act(stem(x))))]
        for conv in others:
            maps.append(conv(self.act(maps[-1])))
        return maps

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the fusion of unread maps, the convolutions after the last read map, and what the ViT has for them."""
        for position in range(len(self.fusion_convs)):
            if position not in kept:
                self.fusion_convs[position] = nn.Identity()
        del self.detail_convs[max(kept) + 2 :]
        keep_maps(self.vit, kept if len(self.vit.feature_specs) > 1 else (0,))

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the ViT."""
        layers, top = self.vit.parameter_layers()
        return with_prefix("vit", layers), top


def _check_depths(specs: Sequence[FeatureSpec]) -> list[FeatureSpec]:
    """Return the specs of the ViT's maps for each level."""
    strides = [spec.stride for spec in specs]
    if len(specs) not in (1, len(STRIDES)) or len(set(strides)) > 1 or CELL % strides[0]:
        raise ValueError(
            f"vit has {len(specs)} maps of strides {strides}; it must have one or three, all of one stride that "
            f"divides {CELL}: choose three blocks of a plain ViT of patch size 16 by its out_block_indices (ViT) or "
            "out_indices (TimmBackbone)"
        )
    return list(specs) if len(specs) > 1 else [*specs] * len(STRIDES)
