"""Write a recipe as a LazyConfig file of Detectron2."""

from __future__ import annotations

import shlex

from ...features import FeatureSpec, level_names
from ...recipes import Recipe
from ...recipes.quoting import in_docstring, uninterpolated
from ...recipes.reasons import recipe_title
from ...recipes.settings import COLORS as RANGE
from ...recipes.settings import MIN_DELTA, WARMUP_FACTOR

MODELS = {"retinanet": "retinanet", "faster_rcnn": "mask_rcnn_fpn", "mask_rcnn": "mask_rcnn_fpn"}
FLIPS = {
    "horizontal": ["L(T.RandomFlip)(horizontal=True),"],
    "all": ["L(T.RandomFlip)(horizontal=True),", "L(T.RandomFlip)(horizontal=False, vertical=True),"],
    "none": [],
}
COLORS = [
    f"L(T.{name})(intensity_min={RANGE[0]}, intensity_max={RANGE[1]}),"
    for name in ("RandomBrightness", "RandomContrast", "RandomSaturation")
]
CONFIG = '''\
"""{title}.

    fpn-plugins train-d2 --config-file {file}

Written for {described_file}; edit it and run it again as any LazyConfig file of Detectron2. Detectron2's
own script reads neither `train.ema` nor `train.early_stopping` nor `train.best_checkpoint`.
{reasons}
"""

from functools import partial

import detectron2.data.transforms as T
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from fpn_plugins.adapters.detectron2 import FPNPluginsRetinaNet, {mapper}PyramidBackbone, bottom_up_lr_factor
from fpn_plugins.adapters.detectron2 import register_coco_split as _register

_max_iter = {plan.iterations}
_train = _register("recipe_train", {train_file!r}, {train_images!r})
_val = _register("recipe_val", {val_file!r}, {val_images!r})
_channels = {channels}

# the same network as in the MMDetection config of the recipe
model = model_zoo.get_config("common/models/{model}.py").model
model.backbone = L(PyramidBackbone)(
    bottom_up={backbone!r},
    neck={plan.neck!r},
    size_divisibility=32,
)
model.input_format = "RGB"
model.pixel_mean = {mean}
model.pixel_std = {std}
{head}
dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = _train
dataloader.train.total_batch_size = {plan.batch}
dataloader.train.num_workers = {plan.workers}
dataloader.train.aspect_ratio_grouping = False
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.use_instance_mask = {masks}
dataloader.train.mapper.instance_mask_format = "bitmask"  # accepts both polygons and RLE
dataloader.train.mapper.augmentations = [
    # one of these sizes at random, by the same factor in both directions
    L(T.ResizeShortestEdge)(
        short_edge_length={short_sides!r}, max_size={longest}, sample_style="choice"
    ),
{augmentations}
]
dataloader.test.dataset.names = _val
dataloader.test.num_workers = {plan.workers}
dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length={size[0]}, max_size={size[1]})]
{camera}dataloader.evaluator.output_dir = "${{...train.output_dir}}"

# AdamW; the pretrained backbone learns more slowly, and biases and norms do not decay
optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.update(lr={plan.rate!r}, weight_decay={plan.weight_decay!r})
optimizer.params.update(weight_decay_norm=0.0, weight_decay_bias=0.0)
optimizer.params.lr_factor_func = partial(bottom_up_lr_factor, factor={plan.backbone_rate!r})
# the rate rises for {plan.warmup} iterations, and falls as a half cosine to 0
lr_multiplier = {schedule}

train = model_zoo.get_config("common/train.py").train
train.update(output_dir={work_dir!r}, seed={plan.seed}, device={plan.device!r})
train.update(max_iter=_max_iter, eval_period={plan.eval_period})
train.checkpointer.update(period={plan.eval_period}, max_to_keep=1)
# the running mean of the weights is evaluated and saved
train.ema = dict(momentum={plan.ema[0]!r}, gamma={plan.ema[1]!r})
train.best_checkpoint = dict(metric="bbox/AP")  # model_best.pth
# end when the AP has not risen in {plan.patience} evaluations; Detectron2's AP is from 0 to 100
train.early_stopping = dict(metric="bbox/AP", min_delta={min_delta!r}, patience={plan.patience})
'''
COLOR_MEAN, COLOR_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CAMERA = """\
for _mapper in (dataloader.train.mapper, dataloader.test.mapper):
    _mapper.update(_target_=PixelMapper, image_format="RGB", {})
"""
RETINANET = """\
model._target_ = FPNPluginsRetinaNet
model.normalizer_momentum = 0.0  # the loss is divided by the batch's own positive anchors, as in MMDetection
model.num_classes = {num_classes}
model.head_in_features = {names!r}
model.head.input_shape = [ShapeSpec(channels=_channels)] * {levels}
model.head.conv_dims = [_channels] * {stacked_convs}
model.head.norm = "GN"
model.head.num_anchors = {num_anchors}
# fitted to the boxes: see anchors.png
model.anchor_generator.update(
    sizes={sizes!r},
    aspect_ratios={ratios!r},
    strides={strides!r},
)
"""
TWO_STAGE = """\
model.proposal_generator.in_features = {names!r}
model.proposal_generator.head.update(in_channels=_channels, num_anchors={num_anchors})
# fitted to the boxes: see anchors.png
model.proposal_generator.anchor_generator.update(
    sizes={sizes!r},
    aspect_ratios={ratios!r},
    strides={strides!r},
)
model.roi_heads.num_classes = {num_classes}
model.roi_heads.box_head.input_shape = ShapeSpec(channels=_channels, height=7, width=7)
"""
MASKS = """\
model.roi_heads.mask_head.input_shape = ShapeSpec(channels=_channels, width=14, height=14)
model.roi_heads.mask_head.conv_dims = [_channels] * 5
"""
NO_MASKS = """\
for _part in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(_part)
"""


def write_detectron2(plan: Recipe, file: str, work_dir: str) -> str:
    """Return the content of a LazyConfig file of Detectron2 that trains as planned; see `write_mmdet`."""
    augmentations = [*FLIPS[plan.flips], *(COLORS if plan.photometric else [])]
    train, val = plan.data.train, plan.data.val
    return CONFIG.format(
        plan=plan,
        title=recipe_title(plan),
        file=in_docstring(shlex.quote(file)),
        described_file=in_docstring(repr(str(train.ann_file.resolve()))),
        reasons=in_docstring("\n".join(f"    {what}: {value} ({why})" for what, value, why in plan.reasons)),
        backbone=uninterpolated(plan.backbone),
        train_file=str(train.ann_file.resolve()),
        train_images=str(train.image_dir.resolve()),
        val_file=str(val.ann_file.resolve()),
        val_images=str(val.image_dir.resolve()),
        channels=plan.channels,
        model=MODELS[plan.detector],
        head=_head(plan),
        masks=plan.detector == "mask_rcnn",
        short_sides=list(plan.short_sides),
        longest=plan.longest,
        augmentations="\n".join(f"    {line}" for line in augmentations),
        size=plan.size,
        mean=COLOR_MEAN if plan.camera is None else list(plan.camera.mean),
        std=COLOR_STD if plan.camera is None else list(plan.camera.std),
        mapper="" if plan.camera is None else "PixelMapper, ",
        camera="" if plan.camera is None else CAMERA.format(plan.camera.arguments),
        schedule=_schedule(plan),
        work_dir=uninterpolated(work_dir),
        min_delta=100 * MIN_DELTA,
    )


def _schedule(plan: Recipe) -> str:
    cosine = "L(CosineParamScheduler)(start_value=1.0, end_value=0.0)"
    if not plan.warmup:
        return cosine
    return (
        f"L(WarmupParamScheduler)(\n    scheduler={cosine},\n    warmup_length={plan.warmup} / _max_iter,\n"
        f"    warmup_factor={WARMUP_FACTOR},\n    rescale_interval=True,\n)"
    )


def _head(plan: Recipe) -> str:
    anchors = plan.anchors
    values = {
        "num_classes": len(plan.data.train.categories),
        "names": list(level_names([FeatureSpec(plan.channels, stride) for stride in anchors.strides], "p")),
        "levels": len(anchors.strides),
        "stacked_convs": plan.stacked_convs,
        "num_anchors": len(anchors.ratios) * anchors.per_octave,
        "sizes": anchors.sizes,
        "ratios": list(anchors.ratios),
        "strides": list(anchors.strides),
    }
    if plan.detector == "retinanet":
        return RETINANET.format(**values)
    return TWO_STAGE.format(**values) + (MASKS if plan.detector == "mask_rcnn" else NO_MASKS)
