"""Configs with the settings of Detectron2's projects match, sample and compute losses as in Detectron2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2] / "configs"
STEMS = sorted(
    path.stem
    for path in ROOT.glob("mmdet/*.py")
    if any(part in path.stem for part in ("_vit", "_mvitv2_"))
    and not path.stem.startswith("demo_")
    and "_vit_adapter_" not in path.stem  # each toolbox's own losses, as with Swin
)
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2]


def each(entry: Any) -> list[Any]:
    """List the stages of a cascade, or the only one."""
    return list(entry) if isinstance(entry, (list, tuple)) or type(entry).__name__ == "ListConfig" else [entry]


def mmdet_facts(model: Any) -> dict[str, Any]:
    """Collect the settings that determine the losses from mmdet's config of a detector."""
    train, heads = model.train_cfg, model.roi_head if "roi_head" in model else model
    facts = {"box losses": [head.loss_bbox.type.removeprefix("mmdet.") for head in each(heads.bbox_head)]}
    if "roi_head" not in model:
        return {**facts, "thresholds": (train.assigner.neg_iou_thr, train.assigner.pos_iou_thr)}
    rpn, proposals = train.rpn, train.rpn_proposal
    return {
        **facts,
        "RPN's box loss": model.rpn_head.loss_bbox.type,
        "anchors": (rpn.assigner.neg_iou_thr, rpn.assigner.pos_iou_thr, rpn.assigner.min_pos_iou, rpn.allowed_border),
        "sampled anchors": (rpn.sampler.num, rpn.sampler.pos_fraction),
        "proposals": (proposals.nms_pre, proposals.max_per_img, proposals.nms.iou_threshold),
        "regions": [(part.assigner.pos_iou_thr, part.assigner.match_low_quality) for part in each(train.rcnn)],
        "sampled regions": {(part.sampler.num, part.sampler.pos_fraction) for part in each(train.rcnn)},
    }


def detectron2_facts(model: Any) -> dict[str, Any]:
    """Collect the same settings from a LazyConfig, in mmdet's terms; absent values are Detectron2's defaults."""
    if "roi_heads" not in model:
        return {"box losses": [box_loss(model)], "thresholds": tuple(model.anchor_matcher.thresholds)}
    heads, rpn = model.roi_heads, model.proposal_generator
    predictors = each(heads.get("box_predictors") or heads.box_predictor)
    matchers = each(heads.get("proposal_matchers") or heads.proposal_matcher)
    return {
        "box losses": [box_loss(predictor) for predictor in predictors],
        "RPN's box loss": box_loss(rpn),
        "anchors": (*rpn.anchor_matcher.thresholds, 0.0, rpn.get("anchor_boundary_thresh", -1)),
        "sampled anchors": (rpn.batch_size_per_image, rpn.positive_fraction),
        "proposals": (rpn.pre_nms_topk[0], rpn.post_nms_topk[0], rpn.nms_thresh),
        "regions": [(matcher.thresholds[0], matcher.allow_low_quality_matches) for matcher in matchers],
        "sampled regions": {(heads.batch_size_per_image, heads.positive_fraction)},
    }


def box_loss(part: Any) -> str:
    return "SmoothL1Loss" if part.get("smooth_l1_beta", 0.0) else "L1Loss"


@pytest.mark.parametrize("stem", STEMS)
def test_both_hosts_compute_the_same_losses(stem: str) -> None:
    from detectron2.config import LazyConfig
    from mmengine.config import Config

    ours = mmdet_facts(Config.fromfile(str(ROOT / f"mmdet/{stem}.py")).model)
    assert ours == detectron2_facts(LazyConfig.load(str(ROOT / f"detectron2/{stem}.py")).model)
