"""Read settings of mmdet's parts into those of an `ExportableDetector`."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from torch import Tensor, nn

from ...export import BoxCoder, BoxStage, GridAnchors, LevelRule, PixelInput, RegionPooler, SelectionRule
from ...export.support import refusal, require, require_inherited
from .compatibility import channel_order


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


def read_pixels(found: Any, normalized: bool) -> PixelInput:
    """Read the data preprocessor."""
    require_inherited(found, "pixels", DetDataPreprocessor, "forward")
    require(found, "pixels", "mean and std", hasattr(found, "mean"))
    return PixelInput(
        found.mean.flatten().tolist(),
        found.std.flatten().tolist(),
        channel_order(found),
        divisor=found.pad_size_divisor,
        pad_value=float(found.pad_value),
        normalized=normalized,
    )


def read_rule(head: Any, cfg: Mapping[str, Any], score_threshold: float) -> SelectionRule:
    """Read the selection of objects or proposals of a ``test_cfg``."""
    nms, limit, min_side = dict(cfg["nms"]), cfg.get("max_per_img", -1), cfg.get("min_bbox_size", -1)
    known = {"type", "iou_threshold", "class_agnostic", "split_thr"}
    plain = nms.get("type", "nms") == "nms" and set(nms) <= known and "iou_threshold" in nms
    require(head, "selection", f"test_cfg.nms=dict(type='nms', iou_threshold=...), not {nms}", plain)
    require(head, "selection", "a positive test_cfg.max_per_img", limit > 0)
    return SelectionRule(
        score_threshold=score_threshold,
        iou_threshold=float(nms["iou_threshold"]),
        limit=int(limit),
        class_agnostic=bool(nms.get("class_agnostic", False)),
        min_side=float(min_side) if min_side >= 0 else None,
    )


def read_anchors(generator: Any) -> list[GridAnchors]:
    """Read the anchors of each level."""
    if type(generator) is not AnchorGenerator:
        raise refusal(generator, "boxes", "it is not mmdet's AnchorGenerator")
    return [GridAnchors(base, stride) for base, stride in zip(generator.base_anchors, generator.strides, strict=True)]


def read_coder(coder: Any) -> BoxCoder:
    """Read a box coder."""
    if type(coder) is not DeltaXYWHBBoxCoder or coder.add_ctr_clamp:
        raise refusal(coder, "boxes", "it is not mmdet's DeltaXYWHBBoxCoder without add_ctr_clamp")
    limit = abs(log(16 / 1000))
    weights = tuple(1 / float(std) for std in coder.stds)
    means = tuple(float(mean) for mean in coder.means)
    return BoxCoder(weights, means, -limit, limit, bool(coder.clip_border))  # type: ignore[arg-type]


def read_pooler(extractor: Any) -> RegionPooler:
    """Read an extractor of regions."""
    require_inherited(extractor, "regions", SingleRoIExtractor, "forward", "map_roi_levels")
    layer, strides = extractor.roi_layers[0], extractor.featmap_strides
    align = type(layer).__name__ == "RoIAlign" and layer.pool_mode == "avg"
    require(extractor, "regions", f"RoIAlign with pool_mode='avg', not {type(layer).__name__}", align)
    rule = LevelRule(level=0, size=float(extractor.finest_scale), epsilon=1e-6)
    size = (int(layer.output_size[0]), int(layer.output_size[1]))
    return RegionPooler(strides, size, layer.sampling_ratio, layer.aligned, rule, range(extractor.num_inputs))


def read_box_stage(extractor: Any, head: Any) -> BoxStage:
    """Read a box head."""
    require_inherited(head, "heads", BBoxHead, "predict_by_feat", "_predict_by_feat_single", "regress_by_class")
    require(head, "heads", "with_cls=True and with_reg=True", head.with_cls and head.with_reg)
    require(
        head,
        "scores",
        "a loss without classes or activation of its own",
        not (head.custom_cls_channels or head.custom_activation),
    )
    return BoxStage(read_pooler(extractor), head, read_coder(head.bbox_coder))


def check_mask_head(head: Any) -> nn.Module:
    """Return a mask head if its predictions are those of mmdet's ``FCNMaskHead``."""
    require_inherited(head, "masks", FCNMaskHead, "predict_by_feat", "_predict_by_feat_single")
    return head
