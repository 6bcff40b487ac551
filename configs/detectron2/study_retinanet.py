"""The RetinaNet of the studies: that of `demo_retinanet` with group norm in its head, trained by AdamW.

It learns the synthetic set several times as fast, so that a study has time for many trainings. ``tools/studies/ablations/study.py`` puts
other pyramids, anchors and lengths into it. The mmdet file of the same stem has the same network and schedule.
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from fpn_plugins.adapters.detectron2 import PyramidBackbone

from .common.coco_folder import num_classes
from .demo_mask_rcnn import dataloader, lr_multiplier, optimizer, train

_channels = 64
_max_iter = 300

model = model_zoo.get_config("common/models/retinanet.py").model
model.backbone = L(PyramidBackbone)(
    bottom_up=dict(
        type="TimmBackbone",
        name="mobilenetv2_100",
        out_indices=(2, 3, 4),
        checkpoint="data/weights/mobilenetv2_100.safetensors",
        frozen_stages=0,
        norm_eval=True,
    ),
    neck=dict(type="FPN", out_channels=_channels, extra_levels=dict(num_levels=2, op="conv", source="input")),
)
model.head.input_shape = [ShapeSpec(channels=_channels)] * 5
model.head.conv_dims = [_channels] * 2
model.head.norm = "GN"
# three sizes an octave from 12 px on p3, as mmdet computes them: the smallest objects have 8 px
model.anchor_generator.sizes = [[x * 2 ** (i / 3) for i in range(3)] for x in (12, 24, 48, 96, 192)]
model.num_classes = num_classes
model.input_format = "RGB"
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]

train.output_dir = "work_dirs/study_retinanet_detectron2"
train.max_iter = train.eval_period = train.checkpointer.period = _max_iter
lr_multiplier.warmup_length = 30 / _max_iter
