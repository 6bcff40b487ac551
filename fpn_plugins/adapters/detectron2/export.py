"""Read a built Detectron2 detector into an `ExportableDetector`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from detectron2.modeling import GeneralizedRCNN, PanopticFPN, RetinaNet, StandardROIHeads
from detectron2.modeling.meta_arch.dense_detector import DenseDetector as HostDenseDetector
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads
from torch import nn

from ...checks import one_of
from ...export import (
    DenseDetector,
    ExportableDetector,
    ExportSettings,
    MaskStage,
    ProposalNetwork,
    RegionDetector,
    SelectionRule,
    SemanticLogits,
)
from ...export.detector import region_kind
from ...export.selection import NOTHING
from ...export.support import refuse_operators, require, require_inherited
from .export_parts import (
    Features,
    Layers,
    read_anchors,
    read_box_stage,
    read_coder,
    read_mask_head,
    read_pixels,
    read_pooler,
    read_rule,
)

# methods whose computation the exported graph follows
_DENSE = (
    *("forward_inference", "inference_single_image", "preprocess_image"),
    *("_decode_per_level_predictions", "_decode_multi_level_predictions"),
)
_REGIONS = ("forward", "_forward_box", "_forward_mask", "forward_with_given_boxes")
_OPERATORS = ("detectron2.layers.deform_conv", "detectron2.layers.roi_align_rotated")


def exportable(detector: Any, normalized: bool = False, masks: str = "probabilities") -> ExportableDetector:
    """Implement `fpn_plugins.adapters.hosts.Host.exportable`."""
    one_of("masks", masks, ("probabilities", "pasted"))
    detector.eval()
    if isinstance(detector, HostDenseDetector):
        require_inherited(detector, "detectors", RetinaNet, "forward", *_DENSE)
    elif isinstance(detector, PanopticFPN):
        require_inherited(detector, "detectors", PanopticFPN, "inference", "preprocess_image")
    else:
        require_inherited(detector, "detectors", GeneralizedRCNN, "inference", "preprocess_image", "_postprocess")
    features = Features(detector.backbone)
    if isinstance(detector, RetinaNet):
        parts = _one_stage(detector, features)
    else:
        parts = (_panoptic if isinstance(detector, PanopticFPN) else _two_stage)(detector, features, masks)
    result = ExportableDetector(read_pixels(detector, normalized), features, **parts).eval()
    refuse_operators(result, _OPERATORS)
    return result


def _one_stage(detector: Any, features: Features) -> dict[str, Any]:
    limit = detector.max_detections_per_image
    rule = read_rule(detector, detector.test_score_thresh, detector.test_nms_thresh, limit)
    objects = DenseDetector(
        detector.head,
        read_anchors(detector.anchor_generator),
        read_coder(detector.box2box_transform, clips=False),  # only at last
        detector.num_classes,
        detector.test_topk_candidates,
        rule,
        features.levels(detector.head_in_features),
    )
    settings = ExportSettings(
        "detectron2",
        "retinanet",
        detector.num_classes,
        rule.score_threshold,
        rule.limit,
        iou_threshold=rule.iou_threshold,
    )
    return {"objects": objects, "settings": settings}


def _two_stage(detector: Any, features: Features, masks: str) -> dict[str, Any]:
    heads = detector.roi_heads
    cascade = isinstance(heads, CascadeROIHeads)
    if cascade:
        require_inherited(heads, "heads", CascadeROIHeads, *_REGIONS, "_run_stage", "_create_proposals_from_boxes")
    else:
        require_inherited(heads, "heads", StandardROIHeads, *_REGIONS)
    require(heads, "keypoints", "keypoint_on=False", not heads.keypoint_on)
    pooler = read_pooler(heads.box_pooler, features.levels(heads.box_in_features))
    pairs = zip(_each(heads.box_head, cascade), _each(heads.box_predictor, cascade), strict=True)
    stages = [read_box_stage(pooler, head, predictor) for head, predictor in pairs]
    last: Any = _each(heads.box_predictor, cascade)[-1]
    rule = read_rule(last, last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image)
    scores = "sigmoid" if last.use_sigmoid_ce else "softmax"
    proposals = _proposals(detector.proposal_generator, features)
    settings = ExportSettings(
        "detectron2",
        region_kind(cascade, heads.mask_on),
        heads.num_classes,
        rule.score_threshold,
        rule.limit,
        masks if heads.mask_on else None,
        iou_threshold=rule.iou_threshold,
    )
    parts = {"objects": RegionDetector(proposals, stages, rule, scores), "settings": settings}
    if heads.mask_on:
        require(heads, "regions", "a mask_pooler", heads.mask_pooler is not None)
        mask_pooler = read_pooler(heads.mask_pooler, features.levels(heads.mask_in_features))
        parts["masks"] = MaskStage([mask_pooler], [read_mask_head(heads.mask_head)])
    return parts


def _each(part: Any, cascade: bool) -> list[nn.Module]:
    return list(part) if cascade else [part]  # a head is a sequence of layers itself


def _proposals(generator: Any, features: Features) -> ProposalNetwork:
    require_inherited(generator, "heads", RPN, "forward", "predict_proposals", "_decode_proposals")
    # logits of any value; at test time
    limit = generator.post_nms_topk[False]
    require(generator, "selection", "a positive number of proposals", limit > 0)
    rule = SelectionRule(NOTHING, float(generator.nms_thresh), int(limit), min_side=float(generator.min_box_size))
    return ProposalNetwork(
        generator.rpn_head,
        read_anchors(generator.anchor_generator),
        read_coder(generator.box2box_transform),
        generator.pre_nms_topk[False],
        rule,
        features.levels(generator.in_features),
        ranks_sigmoid=False,
    )


def _panoptic(detector: Any, features: Features, masks: str) -> dict[str, Any]:
    head = detector.sem_seg_head
    require_inherited(head, "panoptic", SemSegFPNHead, "forward")
    parts = _two_stage(detector, features, masks)
    merging = {
        "things": parts["settings"].num_classes,
        "stuff": head.predictor.out_channels - 1,
        "overlap_threshold": float(detector.combine_overlap_thresh),
        "stuff_area": int(detector.combine_stuff_area_thresh),
        "score_threshold": float(detector.combine_instances_score_thresh),
    }
    parts["settings"] = replace(parts["settings"], kind="panoptic_fpn", panoptic=merging)
    levels = features.levels(head.in_features)
    parts["semantic"] = SemanticLogits(Layers(head, tuple(head.in_features)), levels, head.common_stride)
    return parts
