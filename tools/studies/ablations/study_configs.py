"""Config files of a study's cells: a base config of each toolbox with another pyramid, and a head that follows from it.

The files name absolute paths of the base configs, and are all that a training needs besides them and the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study_design import Cell, Study, Variant, anchor_sizes, backbone_levels, head_levels

from fpn_plugins.features import FeatureSpec, level_names

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
CONFIG_NAME = "config.py"
# side of the smallest anchor in pixels, and sizes in an octave, as in the base configs; the smallest objects have 8
ANCHORS = {"retinanet": (12.0, 3), "mask_rcnn": (16.0, 1)}
PADDING = 32  # to multiples of this, in both toolboxes
POOLED_LEVELS = 4
CANONICAL = 14  # a region of this many cells of the finest map begins the next level: 56 px on stride 4
WARMUP = 0.1  # share of the training, about as in the base configs
# the first is what a cell's config is made from, which reads the others
BASES = {
    ("retinanet", "mmdet"): ("study_retinanet.py", "demo_retinanet.py", "_base_/demo_data.py"),
    ("retinanet", "detectron2"): ("study_retinanet.py", "demo_mask_rcnn.py", "common/coco_folder.py"),
    ("mask_rcnn", "mmdet"): ("demo_mask_rcnn.py", "_base_/demo_data.py"),
    ("mask_rcnn", "detectron2"): ("demo_mask_rcnn.py", "common/coco_folder.py"),
}


def base_configs(head: str, toolbox: str) -> list[Path]:
    """The config that a cell's is made from, and those that it reads."""
    return [CONFIGS / toolbox / name for name in BASES[head, toolbox]]


def config_file(study: Study, cell: Cell, work_dir: Path) -> str:
    """Content of a cell's config file; ``work_dir`` is where the toolbox shall write."""
    writer = {
        ("retinanet", "mmdet"): _mmdet_retinanet,
        ("mask_rcnn", "mmdet"): _mmdet_mask_rcnn,
        ("retinanet", "detectron2"): _detectron2_retinanet,
        ("mask_rcnn", "detectron2"): _detectron2_mask_rcnn,
    }[cell.head, cell.toolbox]
    return writer(study, cell, head_levels(cell.variant), work_dir)


def _warmup(study: Study) -> int:
    return max(2, round(WARMUP * study.iterations))


def _period(study: Study) -> int:
    return -(-study.iterations // study.evaluations)


# mmdet: a delta to the demo's config, written as Python
NO_CHECKPOINT = {"type": "CheckpointHook", "by_epoch": False, "interval": -1, "save_last": False}


def _mmdet(study: Study, cell: Cell, work_dir: Path, model: Mapping[str, Any]) -> str:
    begin = {"by_epoch": False, "begin": 0}
    values = {
        "model": {**_mmdet_pyramid(cell.variant), **model},
        "train_cfg": {"max_iters": study.iterations, "val_interval": _period(study)},
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.01, **begin, "end": _warmup(study)},
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
    if cell.variant.stock:  # where the backbone's parameters have another name
        values["optim_wrapper"] = {"paramwise_cfg": {"custom_keys": {"backbone.": {"lr_mult": 0.1}}}}
    lines = [f"_base_ = {str(base_configs(cell.head, cell.toolbox)[0])!r}"]
    return "\n".join([*lines, *(f"{key} = {value!r}" for key, value in values.items())]) + "\n"


def _mmdet_pyramid(variant: Variant) -> dict[str, Any]:
    backbone, neck = dict(variant.backbone), dict(variant.neck)
    if not variant.stock:
        pyramid = {"_delete_": True, "type": "fpn_plugins.CorePyramid", "backbone": backbone, "neck": neck}
        return {"backbone": pyramid | {"out_positions": variant.levels and list(variant.levels)}}
    kind = f"fpn_plugins.{backbone.pop('type')}"
    specs, levels = backbone_levels(variant), head_levels(variant)
    _check_stock(variant)
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


def _check_stock(variant: Variant) -> None:
    expected = {"num_levels": 2, "op": "conv", "source": "input"}
    if dict(variant.neck) != {"type": "FPN", "out_channels": variant.neck["out_channels"], "extra_levels": expected}:
        raise ValueError(
            f"variant {variant.name!r}: both toolboxes' own FPN is used with extra_levels={expected} alone"
        )


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
    return _mmdet(study, cell, work_dir, {"bbox_head": head})


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
    return _mmdet(study, cell, work_dir, model)


# Detectron2: a LazyConfig that changes one

LAZY = """\
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec

_cfg = LazyConfig.load({base!r})
dataloader, lr_multiplier, model = _cfg.dataloader, _cfg.lr_multiplier, _cfg.model
optimizer, train = _cfg.optimizer, _cfg.train

{backbone}
_anchors = {anchors!r}
{head}
lr_multiplier.warmup_length = {warmup} / {iterations}
train.max_iter = {iterations}
train.eval_period = {period}
train.checkpointer.period = {iterations} + 1
train.seed = {seed}
train.output_dir = {work_dir!r}
"""
LAZY_BACKBONE = """\
model.backbone.bottom_up = {backbone!r}
model.backbone.neck = {neck!r}
model.backbone.size_divisibility = {padding}
"""
LAZY_STOCK = """\
from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import FPN, LastLevelP6P7

model.backbone.bottom_up = {backbone!r}
model.backbone.neck = None
model.backbone = L(FPN)(
    bottom_up=model.backbone,
    in_features={names!r},
    out_channels={channels},
    top_block=L(LastLevelP6P7)(in_channels={last_channels}, out_channels={channels}, in_feature={names!r}[-1]),
)
"""
LAZY_RETINANET = """\
model.anchor_generator.update(_anchors)
model.head_in_features = {names!r}
model.head.input_shape = [ShapeSpec(channels={channels})] * {num_levels}
model.head.conv_dims = [{channels}] * 2
model.head.num_anchors = {num_anchors}
"""
LAZY_MASK_RCNN = """\
model.proposal_generator.anchor_generator.update(_anchors)
model.proposal_generator.in_features = {names!r}
model.proposal_generator.head.in_channels = {channels}
model.proposal_generator.head.num_anchors = {num_anchors}
_roi = model.roi_heads
_roi.box_in_features = _roi.mask_in_features = {pooled_names!r}
_roi.box_pooler.scales = _roi.mask_pooler.scales = {scales!r}
_roi.box_head.input_shape = ShapeSpec(channels={channels}, height=7, width=7)
_roi.mask_head.input_shape = ShapeSpec(channels={channels}, height=14, width=14)
_roi.mask_head.conv_dims = [{channels}] * 3
"""


def _detectron2_retinanet(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    return _lazy(study, cell, levels, work_dir, LAZY_RETINANET)


def _detectron2_mask_rcnn(study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    pooled = levels[:POOLED_LEVELS]
    names, scales = list(level_names(pooled)), [1 / level.stride for level in pooled]
    return _lazy(study, cell, levels, work_dir, LAZY_MASK_RCNN, pooled_names=names, scales=scales)


def _lazy(
    study: Study, cell: Cell, levels: Sequence[FeatureSpec], work_dir: Path, template: str, **values: object
) -> str:
    sizes = anchor_sizes(len(levels), *ANCHORS[cell.head])
    head = template.format(
        names=list(level_names(levels)),
        num_levels=len(levels),
        channels=levels[0].channels,
        num_anchors=3 * len(sizes[0]),
        **values,
    )
    return LAZY.format(
        base=str(base_configs(cell.head, cell.toolbox)[0]),
        backbone=_lazy_backbone(cell.variant),
        anchors={"sizes": sizes, "strides": [level.stride for level in levels]},
        head=head,
        warmup=_warmup(study),
        iterations=study.iterations,
        period=_period(study),
        seed=cell.seed,
        work_dir=str(work_dir),
    )


def _lazy_backbone(variant: Variant) -> str:
    backbone = dict(variant.backbone)
    if not variant.stock:
        return LAZY_BACKBONE.format(backbone=backbone, neck=dict(variant.neck), padding=PADDING)
    specs, levels = backbone_levels(variant), head_levels(variant)
    _check_stock(variant)
    return LAZY_STOCK.format(
        backbone=backbone,
        names=list(level_names(specs, "c")),
        channels=levels[0].channels,
        last_channels=specs[-1].channels,
    )
