"""Faster R-CNN, ResNet-50, top-down pyramid without laterals, 12 epochs of COCO (90000 iterations of 16 images).

A baseline of the FPN paper (arXiv:1612.03144, table 1 (e)): ``faster_rcnn_r50_fpn_12e`` with no laterals but C5's.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_top_down_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.type = "TopDownPyramid"
