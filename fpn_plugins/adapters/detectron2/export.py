"""Read a built Detectron2 detector into an `ExportableDetector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.modeling import RetinaNet
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor, nn

from ...export import (
    BoxCoder,
    DenseDetector,
    ExportableDetector,
    ExportSettings,
    GridAnchors,
    PixelInput,
    SelectionRule,
)
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


def exportable(detector: Any, normalized: bool = False) -> ExportableDetector:
    """Turn a built detector into a module that exporters can record; it shares the detector's weights.

    Args:
        detector: Detectron2's detector; it is set to evaluation mode.
        normalized: whether the images given to the result are normalized already.

    Raises:
        ValueError: a detector, head or setting that cannot be exported; the message names the module.
    """
    detector.eval()
    if isinstance(detector, RetinaNet):
        pixels, features = _pixels(detector, normalized), Features(detector.backbone)
        objects, settings = _dense(detector, features)
        return ExportableDetector(pixels, features, objects, settings).eval()
    raise refusal(detector, "it is no RetinaNet")


def _pixels(detector: Any, normalized: bool) -> PixelInput:
    padding = detector.backbone.padding_constraints or {}
    return PixelInput(
        detector.pixel_mean.flatten().tolist(),
        detector.pixel_std.flatten().tolist(),
        channel_order(detector),
        divisor=padding.get("size_divisibility", detector.backbone.size_divisibility),
        square=padding.get("square_size", 0),
        normalized=normalized,
    )


def _dense(detector: Any, features: Features) -> tuple[DenseDetector, ExportSettings]:
    require_inherited(
        detector, RetinaNet, "forward", "forward_inference", "inference_single_image", "_decode_per_level_predictions"
    )
    require(detector, "max_detections_per_image above 0", detector.max_detections_per_image > 0)
    rule = SelectionRule(
        score_threshold=float(detector.test_score_thresh),
        iou_threshold=float(detector.test_nms_thresh),
        limit=int(detector.max_detections_per_image),
        drops_empty=True,
    )
    objects = DenseDetector(
        detector.head,
        _anchors(detector.anchor_generator),
        _coder(detector.box2box_transform, clips=False),  # only at last
        detector.num_classes,
        detector.test_topk_candidates,
        rule,
        features.levels(detector.head_in_features),
    )
    return objects, ExportSettings("detectron2", "retinanet", detector.num_classes, rule.score_threshold, rule.limit)


def _anchors(generator: Any) -> list[GridAnchors]:
    if type(generator) is not DefaultAnchorGenerator:
        raise refusal(generator, "it is not Detectron2's DefaultAnchorGenerator")
    offsets = [generator.offset * stride for stride in generator.strides]
    return [
        GridAnchors(base, (stride, stride), (offset, offset))
        for base, stride, offset in zip(generator.cell_anchors, generator.strides, offsets, strict=True)
    ]


def _coder(transform: Any, clips: bool = True) -> BoxCoder:
    weights = tuple(float(weight) for weight in transform.weights)
    return BoxCoder(weights, max_log=float(transform.scale_clamp), clips=clips)  # type: ignore[arg-type]
