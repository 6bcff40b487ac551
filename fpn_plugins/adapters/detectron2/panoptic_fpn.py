"""Semantic head of Panoptic FPN for Detectron2 (``MODEL.SEM_SEG_HEAD.NAME: PanopticFPNHead``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from detectron2.config import configurable
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, SemSegFPNHead
from torch import Tensor

from ...checks import mapping, name_or_factory, positive_ints
from ...features import FeatureSpec
from ...layers import OR_FACTORY, make_norm
from ...necks import SemanticMerge
from ...weights import redirect_keys
from ...weights.maps.panoptic_fpn import detectron2_head
from .backbone import NORMS


@SEM_SEG_HEADS_REGISTRY.register()
class PanopticFPNHead(SemSegFPNHead):
    """Detectron2's ``SemSegFPNHead`` on `SemanticMerge`; predictor and losses are Detectron2's.

    Arguments, ``MODEL.SEM_SEG_HEAD`` keys and checkpoints are those of ``SemSegFPNHead``. Deliberate difference: on
    maps whose sizes are not multiples of each other, where Detectron2's sum of the levels raises an error, each level
    is resized to the finer one. Detectron2's loss and post-processing need images padded to multiples of
    ``common_stride``.

    Raises:
        ValueError: no features, or strides that are not powers of two or are finer than ``common_stride``.
        TypeError: an argument that ``SemSegFPNHead`` does not have.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        conv_dims: int,
        common_stride: int,
        norm: str | Callable[[int], Any] | None = None,
        **host: Any,
    ) -> None:
        mapping("input_shape", input_shape, '{"p2": ShapeSpec(channels=256, stride=4)}')
        positive_ints(conv_dims=conv_dims, common_stride=common_stride)
        name_or_factory("norm", norm, NORMS, OR_FACTORY)
        make_norm(partial(get_norm, norm), conv_dims)
        # keywords: `configurable` would mistake a positional argument for a whole config
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, common_stride=common_stride, norm=norm, **host)
        for name in self.in_features:  # Detectron2's branches
            delattr(self, name)
        del self.scale_heads
        shapes = [input_shape[name] for name in self.in_features]
        self.semantic_merge = SemanticMerge.to_stride(
            [FeatureSpec(shape.channels, shape.stride) for shape in shapes],
            common_stride,
            conv_dims,
            norm=partial(get_norm, norm),
        )
        redirect_keys(self, detectron2_head(self.in_features))

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Compute logits ``B num_classes H W`` at ``common_stride``."""
        return self.predictor(self.semantic_merge([features[name] for name in self.in_features]))
