"""Config files of a study's cells: the toolboxes' demo configs with another pyramid, and heads that follow from it.

The files name absolute paths of the base configs, and are all that a training needs besides them and the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpn_plugins.analysis.study import Cell, Study, anchor_sizes, head_levels
from fpn_plugins.features import FeatureSpec, level_names

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# side of the smallest anchor in pixels, and sizes in an octave, as in the demo's configs; its smallest objects have 8
ANCHORS = {"retinanet": (12.0, 3), "mask_rcnn": (16.0, 1)}
PADDING = 32  # to multiples of this, in both toolboxes
POOLED_LEVELS = 4
CANONICAL = 14  # a region of this many cells of the finest map begins the next level: 56 px on stride 4
# shares of the training, and the factor that the warm-up begins with, as in the demo's configs
WARMUP, STEPS = 0.1, (0.7, 0.9)
START_FACTORS = {"retinanet": 0.001, "mask_rcnn": 0.01}


def base_config(head: str, toolbox: str) -> Path:
    """The demo's config that a cell's is made from."""
    suffix = "yaml" if (head, toolbox) == ("retinanet", "detectron2") else "py"
    return CONFIGS / toolbox / f"demo_{head}.{suffix}"


def config_file(study: Study, cell: Cell, work_dir: Path) -> tuple[str, str]:
    """Name and content of a cell's config file; ``work_dir`` is where the toolbox shall write."""
    writer = {
        ("retinanet", "mmdet"): _mmdet_retinanet,
        ("mask_rcnn", "mmdet"): _mmdet_mask_rcnn,
        ("retinanet", "detectron2"): _detectron2_retinanet,
        ("mask_rcnn", "detectron2"): _detectron2_mask_rcnn,
    }[cell.head, cell.toolbox]
    suffix = base_config(cell.head, cell.toolbox).suffix
    return f"config{suffix}", writer(study, cell, head_levels(cell.variant), work_dir)


def _warmup(study: Study) -> int:
    return max(2, round(WARMUP * study.iterations))


def _steps(study: Study) -> list[int]:
    return sorted({max(1, int(share * study.iterations)) for share in STEPS})


def _period(study: Study) -> int:
    return -(-study.iterations // study.evaluations)


# mmdet: a delta to the demo's config, written as Python
NO_CHECKPOINT = {"type": "CheckpointHook", "by_epoch": False, "interval": -1, "save_last": False}


def _mmdet(study: Study, cell: Cell, work_dir: Path, model: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    pyramid = {"_delete_": True, "type": "fpn_plugins.CorePyramid"}
    pyramid |= {"backbone": dict(cell.variant.backbone), "neck": dict(cell.variant.neck)}
    pyramid |= {"out_positions": cell.variant.levels and list(cell.variant.levels)}
    warmup = {"type": "LinearLR", "start_factor": START_FACTORS[cell.head], "end": _warmup(study)}
    values = {
        "model": {"backbone": pyramid, **model},
        "train_cfg": {"max_iters": study.iterations, "val_interval": _period(study)},
        "param_scheduler": [
            {"by_epoch": False, "begin": 0, **warmup},
            {"by_epoch": False, "begin": 0, "end": study.iterations, **second},
        ],
        "default_hooks": {
            "checkpoint": {"_delete_": True, **NO_CHECKPOINT},
            "logger": {"interval": min(20, study.iterations), "log_metric_by_epoch": False},
        },
        "randomness": {"seed": cell.seed},
        "work_dir": str(work_dir),
        "val_evaluator": {"outfile_prefix": str(work_dir / "predictions")},
    }
    lines = [f"_base_ = {str(base_config(cell.head, cell.toolbox))!r}"]
    return "\n".join([*lines, *(f"{key} = {value!r}" for key, value in values.items())]) + "\n"


def _mmdet_anchors(head: str, levels: Sequence[FeatureSpec]) -> dict[str, Any]:
    sizes = anchor_sizes(len(levels), *ANCHORS[head])
    return {
        "_delete_": True,
        "type": "AnchorGenerator",
        "strides": [level.stride for level in levels],
        "ratios": [0.5, 1.0, 2.0],
        "base_sizes": [of_level[0] for of_level in sizes],
        "scales": [size / sizes[0][0] for size in sizes[0]],
    }


def _mmdet_retinanet(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    channels = levels[0].channels
    anchors = _mmdet_anchors(cell.head, levels)
    head = {"in_channels": channels, "feat_channels": channels, "anchor_generator": anchors}
    second = {"type": "MultiStepLR", "milestones": _steps(study), "gamma": 0.1}
    return _mmdet(study, cell, work_dir, {"bbox_head": head}, second)


def _mmdet_mask_rcnn(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    channels = levels[0].channels
    strides = [level.stride for level in levels[:POOLED_LEVELS]]
    pooled = {"out_channels": channels, "featmap_strides": strides, "finest_scale": CANONICAL * strides[0]}
    model = {
        "rpn_head": {
            "in_channels": channels,
            "feat_channels": channels,
            "anchor_generator": _mmdet_anchors(cell.head, levels),
        },
        "roi_head": {
            "bbox_roi_extractor": pooled,
            "mask_roi_extractor": pooled,
            "bbox_head": {"in_channels": channels},
            "mask_head": {"in_channels": channels, "conv_out_channels": channels},
        },
    }
    return _mmdet(study, cell, work_dir, model, {"type": "CosineAnnealingLR", "T_max": study.iterations})


# Detectron2: a whole YAML file, because merging would mix the arguments of two necks, or a LazyConfig that changes one


def _detectron2_retinanet(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    import yaml

    cfg = yaml.safe_load(base_config(cell.head, cell.toolbox).read_text(encoding="utf-8"))
    model = cfg["MODEL"]
    model["FPN_PLUGINS"] = {
        "BACKBONE": _type_and_args(cell.variant.backbone),
        "NECK": _type_and_args(cell.variant.neck),
        "SIZE_DIVISIBILITY": PADDING,
    }
    model["RETINANET"]["IN_FEATURES"] = list(level_names(levels))
    model["ANCHOR_GENERATOR"]["SIZES"] = anchor_sizes(len(levels), *ANCHORS[cell.head])
    steps = {"WARMUP_ITERS": _warmup(study), "STEPS": _steps(study), "MAX_ITER": study.iterations}
    cfg["SOLVER"] |= {**steps, "CHECKPOINT_PERIOD": study.iterations + 1}
    cfg["TEST"]["EVAL_PERIOD"] = _period(study)
    cfg |= {"SEED": cell.seed, "OUTPUT_DIR": str(work_dir)}
    return yaml.safe_dump(json.loads(json.dumps(cfg)), sort_keys=False)  # without YAML's references


def _type_and_args(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"TYPE": config["type"], "ARGS": {key: value for key, value in config.items() if key != "type"}}


LAZY = """\
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec

_cfg = LazyConfig.load({base!r})
dataloader, lr_multiplier, model = _cfg.dataloader, _cfg.lr_multiplier, _cfg.model
optimizer, train = _cfg.optimizer, _cfg.train

model.backbone.bottom_up = {backbone!r}
model.backbone.neck = {neck!r}
model.backbone.size_divisibility = {padding}
model.proposal_generator.in_features = {names!r}
model.proposal_generator.head.in_channels = {channels}
model.proposal_generator.head.num_anchors = {num_anchors}
model.proposal_generator.anchor_generator.sizes = {sizes!r}
model.proposal_generator.anchor_generator.strides = {strides!r}
_roi = model.roi_heads
_roi.box_in_features = _roi.mask_in_features = {pooled_names!r}
_roi.box_pooler.scales = _roi.mask_pooler.scales = {scales!r}
_roi.box_head.input_shape = ShapeSpec(channels={channels}, height=7, width=7)
_roi.mask_head.input_shape = ShapeSpec(channels={channels}, height=14, width=14)
_roi.mask_head.conv_dims = [{channels}] * 3

lr_multiplier.warmup_length = {warmup} / {iterations}
train.max_iter = {iterations}
train.eval_period = {period}
train.checkpointer.period = {iterations} + 1
train.seed = {seed}
train.output_dir = {work_dir!r}
"""


def _detectron2_mask_rcnn(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    pooled = levels[:POOLED_LEVELS]
    sizes = anchor_sizes(len(levels), *ANCHORS[cell.head])
    return LAZY.format(
        base=str(base_config(cell.head, cell.toolbox)),
        backbone=dict(cell.variant.backbone),
        neck=dict(cell.variant.neck),
        padding=PADDING,
        names=list(level_names(levels)),
        channels=levels[0].channels,
        num_anchors=3 * len(sizes[0]),
        sizes=sizes,
        strides=[level.stride for level in levels],
        pooled_names=list(level_names(pooled)),
        scales=[1 / level.stride for level in pooled],
        warmup=_warmup(study),
        iterations=study.iterations,
        period=_period(study),
        seed=cell.seed,
        work_dir=str(work_dir),
    )
