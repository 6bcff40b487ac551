"""Maps from several depths of one plain Vision Transformer, resampled to the strides of a convolutional network.

::

    image --blocks 1..3-- /16 --deconv--norm--GELU--deconv--> c2 /4
            blocks 4..6-- /16 --deconv----------------------> c3 /8
            blocks 7..9-- /16 ------------------------------> c4 /16
            blocks 10..12 /16 --2x2 max-pool----------------> c5 /32

Sources: BEiT with UPerNet (arXiv:2106.08254, ``semantic_segmentation/backbone/beit.py``), whose layers these are; DPT
(arXiv:2103.13413, section 3) also taps blocks 3, 6, 9 and 12. ViTDet (arXiv:2203.16527, figure 2 (a)) compares its
simple pyramid with an FPN on maps of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from ..checks import integers, mapping
from ..features import FeatureSpec
from ..layers import NormFactory, check_layers
from ..ops.cropping import crop, pad_to_cells
from ..ops.windows import windows_along
from ..resampling import make_resample
from .base import Backbone, unread_map
from .build import register_backbone
from .layer_numbers import with_prefix
from .vit.vit import ViT, published_design


@register_backbone
class MultiDepthViT(Backbone):
    """Plain ViT as a backbone with several strides, for `FPN` or any other neck.

    Args:
        vit: arguments of `ViT` (``embed_dim``, ``checkpoint``, ``frozen_stages``, ...), without ``out_block_indices``;
            ``{}`` is ViTDet's ViT-B.
        depths: number of blocks before each map, ascending. The default is for 12 blocks; use ``(6, 12, 18, 24)`` for
            ViT-L. Blocks after the last one are not built.
        strides: stride of each map in input pixels; power-of-two multiples or fractions of the patch size.
        norm: norm between two transposed convolutions, see `make_norm`: ``"LN"``, as in ViTDet, does not depend on the
            batch; BEiT has ``"BN"``.

    Attributes:
        feature_specs: ``embed_dim`` channels at each of ``strides``.

    Images can have any size: they are zero-padded on the right and at the bottom to whole cells of the coarsest map,
    and each map is cropped to ``ceil(side / stride)``. BEiT's and ViTDet's code ignores pixels after the last patch.

    State dict: ``vit.*`` (Detectron2's names), ``resamples.<i>.*``; weights of the ViT alone are its ``checkpoint``.

    Raises:
        ValueError: depths that do not ascend or that the ViT does not have, another number of strides, or a stride that
            is not a power-of-two multiple or fraction of the patch size.
    """

    def __init__(
        self,
        vit: Mapping[str, Any],
        depths: Sequence[int] = (3, 6, 9, 12),
        strides: Sequence[int] = (4, 8, 16, 32),
        norm: str | NormFactory | None = "LN",
    ) -> None:
        super().__init__()
        mapping("vit", vit, '{"embed_dim": 768}')
        check_layers(norm=norm)
        strides = integers("strides", strides, 1)
        self.depths = _check_depths(depths, strides, vit)
        self.vit = ViT(**{**vit, "out_block_indices": tuple(depth - 1 for depth in self.depths)})
        self.expect_pixels_of(self.vit)
        self.in_chans = self.vit.in_chans
        (channels, patch), *_ = self.vit.feature_specs
        self.feature_specs = tuple(FeatureSpec(channels, stride) for stride in strides)
        _check_strides(strides, patch)
        self.resamples = nn.ModuleList(make_resample(channels, Fraction(patch, stride), norm) for stride in strides)
        self.cell = max(patch, *strides)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per stride, rounded up."""
        self.check_image(x)
        height, width = x.shape[-2:]
        depths = self.vit(pad_to_cells(x, self.cell))
        maps = []
        for resample, tokens, spec in zip(self.resamples, depths, self.feature_specs, strict=True):
            size = windows_along(height, spec.stride), windows_along(width, spec.stride)
            unread = isinstance(resample, nn.Identity)
            maps.append(unread_map(tokens, spec.channels, *size) if unread else crop(resample(tokens), size))
        return self.complete(maps)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the resampling of unread maps, and the blocks after the last read map."""
        self.vit.keep_maps(range(max(kept) + 1))
        for position in range(len(self.resamples)):
            if position not in kept:
                self.resamples[position] = nn.Identity()

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the ViT."""
        layers, top = self.vit.parameter_layers()
        return with_prefix("vit", layers), top


def _check_strides(strides: Sequence[int], patch: int) -> None:
    scales = [Fraction(patch, stride) for stride in strides]
    if any(side & (side - 1) for scale in scales for side in scale.as_integer_ratio()):
        raise ValueError(
            f"strides={list(strides)} must be the ViT's stride of {patch} pixels times or over a power of two; change "
            "them, or its patch_size"
        )


def _check_depths(depths: Sequence[int], strides: Sequence[int], vit: Mapping[str, Any]) -> tuple[int, ...]:
    if "out_block_indices" in vit:
        raise ValueError(
            f"vit's out_block_indices={vit['out_block_indices']!r} is derived from depths={list(depths)}; remove it"
        )
    available = vit.get("depth")
    if available is None:
        available = published_design(vit.get("name")).depth
    chosen = integers("depths", depths)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 1 or chosen[-1] > available:
        raise ValueError(
            f"depths={list(depths)} must ascend among the ViT's {available} blocks, counted from 1 (1..{available})"
        )
    if len(strides) != len(chosen):
        raise ValueError(f"depths={list(depths)} and strides={list(strides)} must have the same length, one per map")
    return chosen
