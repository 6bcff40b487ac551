"""Write a recipe as an MMDetection config."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ...data import CocoSplit
from ...recipes import Recipe
from ...recipes.quoting import in_docstring, literal
from ...recipes.reasons import recipe_title
from ...recipes.settings import COLORS as RANGE
from ...recipes.settings import MIN_DELTA, WARMUP_FACTOR

BASES = {
    "retinanet": "mmdet::_base_/models/retinanet_r50_fpn.py",
    "faster_rcnn": "mmdet::_base_/models/faster-rcnn_r50_fpn.py",
    "mask_rcnn": "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
}
FLIPS = {
    "horizontal": ['dict(type="RandomFlip", prob=0.5),'],
    "all": ['dict(type="RandomFlip", prob=[0.25, 0.25, 0.25], direction=["horizontal", "vertical", "diagonal"]),'],
    "none": [],
}
COLORS = [
    f'dict(type="{name}", min_mag={RANGE[0]}, max_mag={RANGE[1]}),' for name in ("Brightness", "Contrast", "Color")
]
CONFIG = '''\
"""{title}.

    fpn-plugins train {file}

Written for {described_file}; edit it and run it again as any config of MMDetection.
{reasons}
"""

_base_ = [{base!r}, "mmdet::_base_/default_runtime.py"]

max_iters = {plan.iterations}
classes = {classes}

{model}
train_pipeline = [
    {reader},
    dict(type="LoadAnnotations", with_bbox=True{masks}),
    # one of these sizes at random, by the same factor in both directions
    dict(type="RandomChoiceResize", scales={scales!r}, keep_ratio=True),
{augmentations}
    dict(type="PackDetInputs"),
]
test_pipeline = [
    {reader},
    dict(type="Resize", scale={scale!r}, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True{masks}),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size={plan.batch},
    num_workers={plan.workers},
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        metainfo=dict(classes=classes),
        ann_file={train_file},
        data_prefix=dict(img={train_images}),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers={plan.workers},
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        metainfo=dict(classes=classes),
        ann_file={val_file},
        data_prefix=dict(img={val_images}),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="fpn_plugins.CocoMetric", ann_file={val_file}, metric={metrics!r}, format_only=False)
test_evaluator = val_evaluator

# AdamW; the pretrained backbone learns more slowly, and biases and norms do not decay
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr={plan.rate!r}, weight_decay={plan.weight_decay!r}),
    constructor="fpn_plugins.BackboneRate",
    paramwise_cfg=dict(backbone_lr_mult={plan.backbone_rate!r}, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
# the rate rises for {plan.warmup} iterations, and falls as a half cosine to 0
param_scheduler = [
{schedule}
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval={plan.eval_period})
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

custom_hooks = [
    # the running mean of the weights is evaluated and saved
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum={plan.ema[0]!r}, gamma={plan.ema[1]!r}),
    # end when the AP has not risen in {plan.patience} evaluations
    dict(
        type="fpn_plugins.EarlyStoppingHook",
        monitor={best!r},
        rule="greater",
        min_delta={min_delta!r},
        patience={plan.patience},
    ),
]
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval={plan.eval_period},
        max_keep_ckpts=1,
        save_best={best!r},
        rule="greater",
        published_keys=["meta", "state_dict"],
    ),
    logger=dict(interval=20, log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size={plan.batch})
randomness = dict(seed={plan.seed})
work_dir = {work_dir}
'''
PREPROCESSOR = """\
    data_preprocessor=dict(
        type="fpn_plugins.DetDataPreprocessor",
        mean={mean!r},
        std={std!r},
        bgr_to_rgb=False,
    ),
"""
RETINANET = """\
    bbox_head=dict(
        in_channels={channels},
        feat_channels={channels},
        stacked_convs={stacked_convs},
        num_classes=len(classes),
        norm_cfg=dict(type="GN", num_groups=32),
        # fitted to the boxes: see anchors.png
        anchor_generator=dict(
            octave_base_scale={scale!r}, scales_per_octave={per_octave}, ratios={ratios!r}, strides={strides!r}
        ),
    ),
"""
TWO_STAGE = """\
    rpn_head=dict(
        in_channels={channels},
        feat_channels={channels},
        # fitted to the boxes: see anchors.png
        anchor_generator=dict(scales=[{scale!r}], ratios={ratios!r}, strides={strides!r}),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels={channels}),
        bbox_head=dict(in_channels={channels}, num_classes=len(classes)),{mask_head}
    ),
    # objects are matched as in Detectron2
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.0)), rcnn=dict(assigner=dict(match_low_quality=False))
    ),
"""
MASK_HEAD = """
        mask_roi_extractor=dict(out_channels={channels}),
        mask_head=dict(in_channels={channels}, conv_out_channels={channels}, num_classes=len(classes)),"""


def write_mmdet(plan: Recipe, file: str, work_dir: str) -> str:
    """Return the content of a config of MMDetection that trains as planned.

    Args:
        plan: the plan.
        file: path that the config will have, for its description.
        work_dir: folder of the training.
    """
    train, val = _files(plan.data.train), _files(plan.data.val)
    masks = plan.detector == "mask_rcnn"
    augmentations = [*FLIPS[plan.flips], *(COLORS if plan.photometric else [])]
    return CONFIG.format(
        plan=plan,
        title=recipe_title(plan),
        file=in_docstring(shlex.quote(file)),
        base=BASES[plan.detector],
        described_file=in_docstring(repr(train["file"])),
        reasons=in_docstring("\n".join(f"    {what}: {value} ({why})" for what, value, why in plan.reasons)),
        classes=literal(plan.data.train.categories),
        model=_model(plan),
        reader=_reader(plan),
        masks=", with_mask=True" if masks else "",
        scales=[(plan.longest, short) for short in plan.short_sides],
        augmentations="\n".join(f"    {line}" for line in augmentations),
        scale=(plan.size[1], plan.size[0]),
        train_file=literal(train["file"]),
        train_images=literal(train["images"]),
        val_file=literal(val["file"]),
        val_images=literal(val["images"]),
        metrics=["bbox", "segm"] if masks else ["bbox"],
        schedule=_schedule(plan),
        best="coco/bbox_mAP",
        min_delta=MIN_DELTA,
        work_dir=literal(work_dir),
    )


def _files(split: CocoSplit) -> Mapping[str, str]:
    return {"file": str(split.ann_file.resolve()), "images": f"{split.image_dir.resolve()}/"}


def _reader(plan: Recipe) -> str:
    if plan.camera is None:
        return 'dict(type="LoadImageFromFile")'
    return f'dict(type="fpn_plugins.LoadImage", {plan.camera.arguments})'


def _schedule(plan: Recipe) -> str:
    begin, length = plan.warmup, plan.iterations - plan.warmup
    linear = f'dict(type="LinearLR", start_factor={WARMUP_FACTOR}, by_epoch=False, begin=0, end={begin + 1}),'
    cosine = (
        f'dict(type="CosineAnnealingLR", T_max={length}, eta_min=0.0, by_epoch=False, begin={begin}, end=max_iters),'
    )
    return "\n".join(f"    {line}" for line in ([linear] if begin else []) + [cosine])


def _model(plan: Recipe) -> str:
    anchors: dict[str, Any] = {
        "channels": plan.channels,
        "stacked_convs": plan.stacked_convs,
        "scale": plan.anchors.scale,
        "per_octave": plan.anchors.per_octave,
        "ratios": list(plan.anchors.ratios),
        "strides": list(plan.anchors.strides),
    }
    masks = MASK_HEAD.format(**anchors) if plan.detector == "mask_rcnn" else ""
    head = (RETINANET if plan.detector == "retinanet" else TWO_STAGE).format(**anchors, mask_head=masks)
    camera = "" if plan.camera is None else PREPROCESSOR.format(mean=list(plan.camera.mean), std=list(plan.camera.std))
    return (
        f"model = dict(\n{camera}    # the same network as in the Detectron2 config of the recipe\n    backbone=dict(\n"
        '        _delete_=True,\n        type="fpn_plugins.CorePyramid",\n'
        f"        backbone={literal(plan.backbone)},\n        neck={plan.neck!r},\n    ),\n    neck=None,\n{head})\n"
    )
