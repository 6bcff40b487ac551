"""Read a built mmdet detector into an `ExportableDetector`."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

from mmdet.models import SingleStageDetector
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RetinaHead, RetinaSepBNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator
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

# methods of heads whose computation the exported graph follows
_PREDICTION = ("predict_by_feat", "_predict_by_feat_single", "_bbox_post_process")


class Features(nn.Module):
    """Backbone and neck of an mmdet detector: images to a sequence of maps."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.neck = detector.neck if detector.with_neck else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the pyramid of images ``B 3 H W``."""
        maps = self.backbone(images)
        return tuple(maps if self.neck is None else self.neck(maps))


def exportable(detector: Any, normalized: bool = False) -> ExportableDetector:
    """Turn a built detector into a module that exporters can record; it shares the detector's weights.

    Args:
        detector: mmdet's detector; it is set to evaluation mode.
        normalized: whether the images given to the result are normalized already.

    Raises:
        ValueError: a detector, head or setting that cannot be exported; the message names the module.
    """
    detector.eval()
    pixels = _pixels(detector.data_preprocessor, normalized)
    if isinstance(detector, SingleStageDetector):
        require_inherited(detector, SingleStageDetector, "predict", "extract_feat")
        objects, settings = _dense(detector.bbox_head)
        return ExportableDetector(pixels, Features(detector), objects, settings).eval()
    raise refusal(detector, "it is no SingleStageDetector")


def _pixels(found: Any, normalized: bool) -> PixelInput:
    require_inherited(found, DetDataPreprocessor, "forward")
    require(found, "mean and std", hasattr(found, "mean"))
    return PixelInput(
        found.mean.flatten().tolist(),
        found.std.flatten().tolist(),
        "RGB" if found._channel_conversion else "BGR",  # images are read as BGR
        divisor=found.pad_size_divisor,
        pad_value=float(found.pad_value),
        normalized=normalized,
    )


def _dense(head: Any) -> tuple[DenseDetector, ExportSettings]:
    if not isinstance(head, (RetinaHead, RetinaSepBNHead)):
        raise refusal(head, "it is not a RetinaHead")
    require_inherited(
        head, BaseDenseHead, "predict", "predict_by_feat", "_predict_by_feat_single", "_bbox_post_process"
    )
    require(head, "scores from sigmoid", head.use_sigmoid_cls)
    require(head, "a loss without custom classes", not getattr(head.loss_cls, "custom_cls_channels", False))
    cfg = head.test_cfg
    require(head, "test_cfg with nms_pre and max_per_img", min(cfg.get("nms_pre", 0), cfg.get("max_per_img", 0)) > 0)
    rule = _rule(head, cfg, cfg.max_per_img)
    anchors = _anchors(head.prior_generator)
    objects = DenseDetector(
        head, anchors, _coder(head.bbox_coder), head.num_classes, cfg.nms_pre, rule, range(len(anchors))
    )
    return objects, ExportSettings("mmdet", "retinanet", head.num_classes, rule.score_threshold, rule.limit)


def _rule(head: Any, cfg: Mapping[str, Any], limit: int) -> SelectionRule:
    """Read the selection of a ``test_cfg``."""
    nms = dict(cfg["nms"])
    known = {"type", "iou_threshold", "class_agnostic", "split_thr"}
    plain = nms.get("type", "nms") == "nms" and set(nms) <= known
    require(head, f"nms=dict(type='nms', iou_threshold=...) instead of {nms}", plain)
    min_side = cfg.get("min_bbox_size", -1)
    return SelectionRule(
        score_threshold=float(cfg.get("score_thr", 0)),
        iou_threshold=float(nms["iou_threshold"]),
        limit=int(limit),
        class_agnostic=bool(nms.get("class_agnostic", False)),
        min_side=float(min_side) if min_side >= 0 else None,
    )


def _anchors(generator: Any) -> list[GridAnchors]:
    if type(generator) is not AnchorGenerator:
        raise refusal(generator, "it is not mmdet's AnchorGenerator")
    return [GridAnchors(base, stride) for base, stride in zip(generator.base_anchors, generator.strides, strict=True)]


def _coder(coder: Any) -> BoxCoder:
    if type(coder) is not DeltaXYWHBBoxCoder or coder.add_ctr_clamp:
        raise refusal(coder, "it is not mmdet's DeltaXYWHBBoxCoder without add_ctr_clamp")
    limit = abs(log(16 / 1000))
    weights = tuple(1 / float(std) for std in coder.stds)
    means = tuple(float(mean) for mean in coder.means)
    return BoxCoder(weights, means, -limit, limit, bool(coder.clip_border))  # type: ignore[arg-type]
