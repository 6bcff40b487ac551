"""Faster R-CNN, ResNet-50, pyramid without a top-down path, 12 epochs of COCO (90000 iterations of 16 images).

A baseline of the FPN paper (arXiv:1612.03144, table 1 (d)): ``faster_rcnn_r50_fpn_12e`` whose levels are not merged.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_ssd_pyramid_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.type = "SSDPyramid"
