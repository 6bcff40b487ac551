"""Panoptic FPN, ResNet-50, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``panoptic_fpn_R_50_1x`` with our neck and semantic head: PQ 39.4, published by Detectron2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/panoptic_fpn_r50_12e.py
"""

from detectron2 import model_zoo

from .common.neck import TWO_STAGE, use_fpn
from .common.panoptic import use_panoptic_head

_base = model_zoo.get_config("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py")
model, dataloader, optimizer = _base.model, _base.dataloader, _base.optimizer
lr_multiplier, train = _base.lr_multiplier, _base.train
use_fpn(model, TWO_STAGE)
use_panoptic_head(model)
train.output_dir = "work_dirs/panoptic_fpn_r50_12e_detectron2"
