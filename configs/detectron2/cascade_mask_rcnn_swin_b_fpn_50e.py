"""Cascade Mask R-CNN, Swin-B of ImageNet-21k, FPN, 50 epochs of COCO with large scale jitter (64 images a batch).

Detectron2's own Cascade R-CNN with the heads and the recipe of its ViTDet project, which publishes box AP 53.9, mask AP
46.2 for ``cascade_mask_rcnn_swin_b_in21k_50ep``.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_swin_b_fpn_50e.py
"""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from .common.lsj import EPOCH, IMAGE_SIZE, dataloader
from .common.neck import TWO_STAGE
from .common.swin import adamw, use_swin

model = model_zoo.get_config("common/models/cascade_rcnn.py").model
train = model_zoo.get_config("common/train.py").train
_name = "swin_base_patch4_window7_224"
use_swin(model, train, _name, TWO_STAGE, release=f"{_name}_22k", norm="LN", drop_path_rate=0.4)
model.backbone.square_pad = IMAGE_SIZE
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.mask_head.conv_norm = "LN"
for _head in model.roi_heads.box_heads:
    _head.conv_dims, _head.fc_dims, _head.conv_norm = [256] * 4, [1024], "LN"

optimizer = adamw(lr=4e-5)
train.max_iter = int(50 * EPOCH)
train.amp.enabled = True
train.ddp.fp16_compression = True
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01],
        milestones=[163889, 177546],  # of 100 epochs: the scheduler scales them
        num_updates=184375,
    ),
    warmup_length=250 / train.max_iter,
    warmup_factor=0.001,
)
train.output_dir = "work_dirs/cascade_mask_rcnn_swin_b_fpn_50e_detectron2"
