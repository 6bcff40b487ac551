"""Read a built mmdet detector into an `ExportableDetector`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mmdet.models import SingleStageDetector, TwoStageDetector
from mmdet.models.dense_heads import RetinaHead, RetinaSepBNHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from torch import Tensor, nn

from ...checks import one_of
from ...export import (
    DenseDetector,
    ExportableDetector,
    ExportSettings,
    MaskStage,
    ProposalNetwork,
    RegionDetector,
    SemanticLogits,
)
from ...export.detector import region_kind
from ...export.selection import NOTHING
from ...export.support import refusal, refuse_operators, require, require_inherited
from .export_parts import (
    Features,
    check_mask_head,
    read_anchors,
    read_box_stage,
    read_coder,
    read_pixels,
    read_pooler,
    read_rule,
)

# methods of heads whose computation the exported graph follows
_PREDICTION = ("predict_by_feat", "_predict_by_feat_single", "_bbox_post_process")
_REGIONS = ("predict", "predict_bbox", "predict_mask", "_bbox_forward", "_mask_forward")


def exportable(detector: Any, normalized: bool = False, masks: str = "probabilities") -> ExportableDetector:
    """Implement `fpn_plugins.adapters.hosts.Host.exportable`."""
    one_of("masks", masks, ("probabilities", "pasted"))
    detector.eval()
    if isinstance(detector, SingleStageDetector):
        require_inherited(detector, "detectors", SingleStageDetector, "predict", "extract_feat")
        parts = _one_stage(detector.bbox_head)
    elif isinstance(detector, TwoStagePanopticSegmentor):
        require_inherited(detector, "detectors", TwoStagePanopticSegmentor, "predict", "extract_feat")
        parts = _panoptic(detector, masks)
    elif isinstance(detector, TwoStageDetector):
        require_inherited(detector, "detectors", TwoStageDetector, "predict", "extract_feat")
        parts = _two_stage(detector, masks)
    else:
        raise refusal(detector, "detectors", "it is neither a SingleStageDetector nor a TwoStageDetector")
    pixels = read_pixels(detector.data_preprocessor, normalized)
    result = ExportableDetector(pixels, Features(detector), **parts).eval()
    refuse_operators(result, ("mmcv.ops.",))
    return result


def _one_stage(head: Any) -> dict[str, Any]:
    if not isinstance(head, (RetinaHead, RetinaSepBNHead)):
        raise refusal(head, "heads", "it is not a RetinaHead")
    require_inherited(head, "heads", BaseDenseHead, "predict", *_PREDICTION)
    require(head, "scores", "a loss with use_sigmoid=True", head.use_sigmoid_cls)
    require(head, "scores", "a loss without custom classes", not getattr(head.loss_cls, "custom_cls_channels", False))
    cfg: Any = head.test_cfg or {}
    require(head, "selection", "a positive test_cfg.nms_pre", cfg.get("nms_pre", -1) > 0)
    rule = read_rule(head, cfg, float(cfg.get("score_thr", 0)))
    anchors, coder = read_anchors(head.prior_generator), read_coder(head.bbox_coder)
    levels = range(len(anchors))
    objects = DenseDetector(head, anchors, coder, head.num_classes, cfg.nms_pre, rule, levels)
    settings = ExportSettings(
        "mmdet", "retinanet", head.num_classes, rule.score_threshold, rule.limit, iou_threshold=rule.iou_threshold
    )
    return {"objects": objects, "settings": settings}


def _two_stage(detector: Any, masks: str) -> dict[str, Any]:
    if not detector.with_rpn:
        raise refusal(detector, "detectors", "it has no rpn_head")
    heads, cfg = detector.roi_head, detector.roi_head.test_cfg
    cascade = isinstance(heads, CascadeRoIHead)
    if cascade:
        require_inherited(heads, "heads", CascadeRoIHead, *_REGIONS, "_refine_roi")
    else:
        require_inherited(heads, "heads", StandardRoIHead, *_REGIONS)
    require(heads, "regions", "no shared_head", not heads.with_shared_head)
    pairs = zip(_each(heads.bbox_roi_extractor), _each(heads.bbox_head), strict=True)
    stages = [read_box_stage(extractor, head) for extractor, head in pairs]
    rule = replace(read_rule(heads, cfg, float(cfg.score_thr)), min_side=None)  # mmdet drops no objects by size here
    found = {"objects": RegionDetector(_proposals(detector.rpn_head), stages, rule, averages_logits=True)}
    kind = region_kind(cascade, heads.with_mask)
    classes = _each(heads.bbox_head)[-1].num_classes
    settings = ExportSettings(
        "mmdet", kind, classes, rule.score_threshold, rule.limit, iou_threshold=rule.iou_threshold
    )
    if not heads.with_mask:
        return {**found, "settings": settings}
    require(heads, "masks", "a test_cfg.mask_thr_binary of at least 0", cfg.mask_thr_binary >= 0)
    poolers = [read_pooler(extractor) for extractor in _each(heads.mask_roi_extractor)]
    mask_stage = MaskStage(poolers, [check_mask_head(head) for head in _each(heads.mask_head)])
    settings = replace(settings, masks=masks, mask_threshold=float(cfg.mask_thr_binary))
    return {**found, "masks": mask_stage, "settings": settings}


def _each(part: Any) -> list[Any]:
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def _proposals(head: Any) -> ProposalNetwork:
    require_inherited(head, "heads", RPNHead, "predict", *_PREDICTION)
    require(head, "scores", "a loss with use_sigmoid=True", head.use_sigmoid_cls)
    cfg: Any = head.test_cfg or {}
    require(head, "selection", "a positive test_cfg.nms_pre", cfg.get("nms_pre", -1) > 0)
    anchors, coder, rule = (
        read_anchors(head.prior_generator),
        read_coder(head.bbox_coder),
        read_rule(head, cfg, NOTHING),
    )
    return ProposalNetwork(head, anchors, coder, cfg.nms_pre, rule, range(len(anchors)), ranks_sigmoid=True)


class _Semantic(nn.Module):
    """Logits of a semantic head."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.head(maps)["seg_preds"]


def _panoptic(detector: Any, masks: str) -> dict[str, Any]:
    head, fusion = detector.semantic_head, detector.panoptic_fusion_head
    require_inherited(head, "panoptic", PanopticFPNHead)
    require_inherited(head, "panoptic", BaseSemanticHead, "predict")
    require_inherited(fusion, "panoptic", HeuristicFusionHead, "_predict_single", "_lay_masks")
    parts = _two_stage(detector, masks)
    merging = {
        "things": fusion.num_things_classes,
        "stuff": fusion.num_stuff_classes,
        "overlap_threshold": float(fusion.test_cfg.mask_overlap),
        "stuff_area": int(fusion.test_cfg.stuff_area_limit),
        "score_threshold": 0.0,
    }
    parts["settings"] = replace(parts["settings"], kind="panoptic_fpn", panoptic=merging)
    parts["semantic"] = SemanticLogits(_Semantic(head), range(head.end_level), factor=None)
    return parts
