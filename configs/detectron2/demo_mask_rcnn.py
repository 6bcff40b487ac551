"""Mask R-CNN with a timm MobileNetV2 and our FPN on the synthetic multi-scale set, small enough for two CPU cores.

    python tools/demo.py --toolbox detectron2   # prepares data and weights, trains with this file, evaluates

The mmdet file of the same stem has the same network, data, and schedule.
"""

from functools import partial

import detectron2.data.transforms as T
import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from fpn_plugins.adapters.detectron2 import bottom_up_lr_factor

from .common.coco_folder import dataloader, num_classes
from .common.neck import use_fpn
from .common.recipe import adamw
from .common.stock import stock_train, use_rgb

_channels = 64
_max_iter = 400

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone.out_channels = _channels
use_fpn(
    model,
    bottom_up=dict(
        type="TimmBackbone",
        name="mobilenetv2_100",
        checkpoint="data/weights/mobilenetv2_100.safetensors",
        frozen_stages=1,
        norm_eval=True,
    ),
)
model.proposal_generator.head.in_channels = _channels
model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [256]]  # the smallest objects measure 8 px
model.proposal_generator.pre_nms_topk = (500, 500)
model.proposal_generator.post_nms_topk = (250, 250)
model.roi_heads.num_classes = num_classes
model.roi_heads.batch_size_per_image = 64
model.roi_heads.box_head.input_shape = ShapeSpec(channels=_channels, height=7, width=7)
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.box_predictor.input_shape = ShapeSpec(channels=256)
model.roi_heads.mask_head.input_shape = ShapeSpec(channels=_channels, height=14, width=14)
model.roi_heads.mask_head.conv_dims = [_channels] * 3  # two convolutions and the upsampling one
use_rgb(model, dataloader)

dataloader.train.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=240, max_size=320),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.total_batch_size = 2
dataloader.train.num_workers = 1
dataloader.train.aspect_ratio_grouping = False
dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=240, max_size=320)]
dataloader.test.num_workers = 1
dataloader.evaluator.output_dir = "${...train.output_dir}"

optimizer = adamw(lr=1e-3, weight_decay=1e-4)
optimizer.params.weight_decay_norm = 1e-4
# a tenth for the pre-trained backbone, whose last stage dies within a hundred iterations at the full rate
optimizer.params.lr_factor_func = partial(bottom_up_lr_factor, factor=0.1)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=50 / _max_iter,
    warmup_factor=0.01,
)

train = stock_train()
train.max_iter = train.eval_period = train.checkpointer.period = _max_iter
train.device = "cuda" if torch.cuda.is_available() else "cpu"
