"""Configs of a study's cells for Detectron2: a LazyConfig that modifies the base config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from study_bases import ANCHORS, PADDING, POOLED_LEVELS, base_configs, check_stock, period, warmup
from study_design import Study, StudyCell, Variant
from study_levels import backbone_levels, head_levels, shared_anchor_sizes

from fpn_plugins.features import FeatureSpec, level_names

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


def detectron2_retinanet(study: Study, cell: StudyCell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    """Write the config of a RetinaNet cell."""
    return _lazy(study, cell, levels, work_dir, LAZY_RETINANET)


def detectron2_mask_rcnn(study: Study, cell: StudyCell, levels: Sequence[FeatureSpec], work_dir: Path) -> str:
    """Write the config of a Mask R-CNN cell."""
    pooled = levels[:POOLED_LEVELS]
    names, scales = list(level_names(pooled)), [1 / level.stride for level in pooled]
    return _lazy(study, cell, levels, work_dir, LAZY_MASK_RCNN, pooled_names=names, scales=scales)


def _lazy(
    study: Study, cell: StudyCell, levels: Sequence[FeatureSpec], work_dir: Path, template: str, **values: object
) -> str:
    sizes = shared_anchor_sizes(len(levels), *ANCHORS[cell.head])
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
        warmup=warmup(study),
        iterations=study.iterations,
        period=period(study),
        seed=cell.seed,
        work_dir=str(work_dir),
    )


def _lazy_backbone(variant: Variant) -> str:
    backbone = dict(variant.backbone)
    if not variant.stock:
        return LAZY_BACKBONE.format(backbone=backbone, neck=dict(variant.neck), padding=PADDING)
    specs, levels = backbone_levels(variant), head_levels(variant)
    check_stock(variant)
    return LAZY_STOCK.format(
        backbone=backbone,
        names=list(level_names(specs, "c")),
        channels=levels[0].channels,
        last_channels=specs[-1].channels,
    )
