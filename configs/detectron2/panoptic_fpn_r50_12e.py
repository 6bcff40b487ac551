"""Panoptic FPN, ResNet-50, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``panoptic_fpn_R_50_1x`` with our neck and semantic head: PQ 39.4, published by Detectron2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/panoptic_fpn_r50_12e.py
"""

from .common.neck import use_fpn
from .common.panoptic import use_label_loader, use_panoptic_head
from .common.stock import stock_parts

dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.py")
use_fpn(model)
use_panoptic_head(model)
use_label_loader(dataloader)
