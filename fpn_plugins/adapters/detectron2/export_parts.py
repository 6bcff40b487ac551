"""Read settings of Detectron2's parts into those of an `ExportableDetector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.layers import ROIAlign
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import BaseMaskRCNNHead, FastRCNNOutputLayers
from torch import Tensor, nn

from ...export import BoxCoder, BoxStage, GridAnchors, LevelRule, PixelInput, RegionPooler, SelectionRule
from ...export.support import refusal, require, require_inherited
from .compatibility import channel_order


class Features(nn.Module):
    """Backbone of a Detectron2 detector: images to a sequence of maps."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.names = tuple(backbone.output_shape())

    def levels(self, names: Sequence[str]) -> list[int]:
        """Return the positions of maps by name."""
        return [self.names.index(name) for name in names]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the pyramid of images ``B 3 H W``."""
        maps = self.backbone(images)
        return tuple(maps[name] for name in self.names)


class Layers(nn.Module):
    """Layers of a head, without its losses and its postprocessing."""

    def __init__(self, head: Any, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.head, self.names = head, names

    def forward(self, x: Any) -> Tensor:
        """Compute the head's logits; a list of maps is handed over by the names given."""
        return self.head.layers(x if self.names is None else dict(zip(self.names, x, strict=True)))


def read_pixels(detector: Any, normalized: bool) -> PixelInput:
    """Read normalization and padding."""
    padding = detector.backbone.padding_constraints or {}
    return PixelInput(
        detector.pixel_mean.flatten().tolist(),
        detector.pixel_std.flatten().tolist(),
        channel_order(detector),
        divisor=padding.get("size_divisibility", detector.backbone.size_divisibility),
        square=padding.get("square_size", 0),
        normalized=normalized,
    )


def read_rule(owner: Any, score_threshold: float, iou_threshold: float, limit: int) -> SelectionRule:
    """Read the selection of objects; ``owner`` has these settings."""
    require(owner, "selection", "a positive number of detections per image", limit > 0)
    return SelectionRule(float(score_threshold), float(iou_threshold), int(limit), drops_empty=True)


def read_anchors(generator: Any) -> list[GridAnchors]:
    """Read the anchors of each level."""
    if type(generator) is not DefaultAnchorGenerator:
        raise refusal(generator, "boxes", "it is not Detectron2's DefaultAnchorGenerator")
    offsets = [generator.offset * stride for stride in generator.strides]
    return [
        GridAnchors(base, (stride, stride), (offset, offset))
        for base, stride, offset in zip(generator.cell_anchors, generator.strides, offsets, strict=True)
    ]


def read_coder(transform: Any, clips: bool = True) -> BoxCoder:
    """Read a box transform."""
    if type(transform).__name__ != "Box2BoxTransform":
        raise refusal(transform, "boxes", "it is not Detectron2's Box2BoxTransform")
    weights = tuple(float(weight) for weight in transform.weights)
    return BoxCoder(weights, max_log=float(transform.scale_clamp), clips=clips)  # type: ignore[arg-type]


def read_pooler(pooler: Any, levels: Sequence[int]) -> RegionPooler:
    """Read a pooler of regions on the maps at ``levels`` of the pyramid."""
    require_inherited(pooler, "regions", ROIPooler, "forward")
    layer = pooler.level_poolers[0]
    require(pooler, "regions", f"ROIAlign, not {type(layer).__name__}", type(layer) is ROIAlign)
    rule = LevelRule(pooler.canonical_level, float(pooler.canonical_box_size), 1e-8, pooler.min_level)
    strides = [1 / each.spatial_scale for each in pooler.level_poolers]
    size = (int(pooler.output_size[0]), int(pooler.output_size[1]))
    return RegionPooler(strides, size, layer.sampling_ratio, layer.aligned, rule, levels)


def read_box_stage(pooler: RegionPooler, head: nn.Module, predictor: Any) -> BoxStage:
    """Read a box head and its predictor."""
    require_inherited(
        predictor, "heads", FastRCNNOutputLayers, "forward", "inference", "predict_boxes", "predict_probs"
    )
    return BoxStage(pooler, nn.Sequential(head, predictor), read_coder(predictor.box2box_transform))


def read_mask_head(head: Any) -> Layers:
    """Read a mask head."""
    require_inherited(head, "masks", BaseMaskRCNNHead, "forward")
    return Layers(head)
