"""Configs of a study's cells for mmdet: a delta to the demo's config, written as Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study_bases import ANCHORS, CANONICAL, POOLED_LEVELS, base_configs, check_stock, period, warmup
from study_design import Study, StudyCell, Variant
from study_levels import backbone_levels, head_levels, shared_anchor_sizes

from fpn_plugins.features import FeatureSpec

NO_CHECKPOINT = {"type": "CheckpointHook", "by_epoch": False, "interval": -1, "save_last": False}


def _delta(study: Study, cell: StudyCell, work_dir: Path, model: Mapping[str, Any]) -> str:
    begin = {"by_epoch": False, "begin": 0}
    values = {
        "model": {**_pyramid(cell.variant), **model},
        "train_cfg": {"max_iters": study.iterations, "val_interval": period(study)},
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.01, **begin, "end": warmup(study)},
            {"type": "CosineAnnealingLR", "T_max": study.iterations, **begin, "end": study.iterations},
        ],
        "default_hooks": {
            "checkpoint": {"_delete_": True, **NO_CHECKPOINT},
            "logger": {"interval": min(20, study.iterations), "log_metric_by_epoch": False},
        },
        "randomness": {"seed": cell.seed},
        "work_dir": str(work_dir),
        "val_evaluator": {"outfile_prefix": str(work_dir / "predictions")},
    }
    if cell.variant.stock:  # the backbone's parameters have another prefix
        values["optim_wrapper"] = {"paramwise_cfg": {"custom_keys": {"backbone.": {"lr_mult": 0.1}}}}
    lines = [f"_base_ = {str(base_configs(cell.head, cell.toolbox)[0])!r}"]
    return "\n".join([*lines, *(f"{key} = {value!r}" for key, value in values.items())]) + "\n"


def _pyramid(variant: Variant) -> dict[str, Any]:
    backbone, neck = dict(variant.backbone), dict(variant.neck)
    if not variant.stock:
        pyramid = {"_delete_": True, "type": "fpn_plugins.CorePyramid", "backbone": backbone, "neck": neck}
        return {"backbone": pyramid | {"out_positions": variant.levels and list(variant.levels)}}
    kind = f"fpn_plugins.{backbone.pop('type')}"
    specs, levels = backbone_levels(variant), head_levels(variant)
    check_stock(variant)
    fpn = {
        "type": "FPN",
        "in_channels": [spec.channels for spec in specs],
        "out_channels": levels[0].channels,
        "num_outs": len(levels),
        "add_extra_convs": "on_input",
        "relu_before_extra_convs": True,
        "init_cfg": {"type": "Caffe2Xavier", "layer": "Conv2d"},
    }
    return {"backbone": {"_delete_": True, "type": kind, **backbone}, "neck": {"_delete_": True, **fpn}}


def _anchors(head: str, levels: Sequence[FeatureSpec]) -> dict[str, Any]:
    sizes = shared_anchor_sizes(len(levels), *ANCHORS[head])
    return {
        "_delete_": True,
        "type": "AnchorGenerator",
        "strides": [level.stride for level in levels],
        "ratios": [0.5, 1.0, 2.0],
        "base_sizes": [of_level[0] for of_level in sizes],
        "scales": [size / sizes[0][0] for size in sizes[0]],
    }


def mmdet_retinanet(study: Study, cell: StudyCell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    """Write the config of a RetinaNet cell."""
    channels = levels[0].channels
    anchors = _anchors(cell.head, levels)
    head = {"in_channels": channels, "feat_channels": channels, "anchor_generator": anchors}
    return _delta(study, cell, work_dir, {"bbox_head": head})


def mmdet_mask_rcnn(study: Study, cell: StudyCell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    """Write the config of a Mask R-CNN cell."""
    channels = levels[0].channels
    strides = [level.stride for level in levels[:POOLED_LEVELS]]
    pooled = {"out_channels": channels, "featmap_strides": strides, "finest_scale": CANONICAL * strides[0]}
    model = {
        "rpn_head": {
            "in_channels": channels,
            "feat_channels": channels,
            "anchor_generator": _anchors(cell.head, levels),
        },
        "roi_head": {
            "bbox_roi_extractor": pooled,
            "mask_roi_extractor": pooled,
            "bbox_head": {"in_channels": channels},
            "mask_head": {"in_channels": channels, "conv_out_channels": channels},
        },
    }
    return _delta(study, cell, work_dir, model)
