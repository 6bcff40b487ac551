"""RetinaNet of the ablation studies: ``demo_retinanet`` with group norm in its head, trained with AdamW.

It learns the synthetic set several times as fast as ``demo_retinanet``, so a study has time for many trainings.
``tools/studies/ablations/study.py`` varies its pyramid, anchors and length. The mmdet file of the same stem has the
same network and schedule.
"""

from detectron2 import model_zoo
from detectron2.layers import ShapeSpec

from .common.coco_folder import num_classes
from .common.stock import use_rgb
from .study_mask_rcnn import dataloader, lr_multiplier, optimizer, train
from .study_mask_rcnn import model as _mask_rcnn

_channels = 64
_max_iter = 300

model = model_zoo.get_config("common/models/retinanet.py").model
model.backbone = _mask_rcnn.backbone
model.backbone.bottom_up.out_indices = (2, 3, 4)
model.backbone.neck.extra_levels = dict(num_levels=2, op="conv", source="input")
model.head.input_shape = [ShapeSpec(channels=_channels)] * 5
model.head.conv_dims = [_channels] * 2
model.head.norm = "GN"
# three sizes an octave from 12 px on p3, as mmdet computes them: the smallest objects measure 8 px
model.anchor_generator.sizes = [[x * 2 ** (i / 3) for i in range(3)] for x in (12, 24, 48, 96, 192)]
model.num_classes = num_classes
use_rgb(model, dataloader)
dataloader.train.mapper.use_instance_mask = False

train.max_iter = train.eval_period = train.checkpointer.period = _max_iter
lr_multiplier.warmup_length = 30 / _max_iter
