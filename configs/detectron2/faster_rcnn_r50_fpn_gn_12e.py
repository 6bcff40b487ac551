"""Faster R-CNN, ResNet-50, FPN with group norm, 12 epochs of COCO (90000 iterations of 16 images).

``faster_rcnn_r50_fpn_12e`` with group norm after each convolution of the pyramid. No result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_gn_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.norm = "GN"
