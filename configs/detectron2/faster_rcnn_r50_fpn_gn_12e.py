"""Faster R-CNN, ResNet-50, FPN with group norm, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's Faster R-CNN but for the group norm after each convolution of the pyramid.
No result has been published for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_gn_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.norm = "GN"
train.output_dir = "work_dirs/faster_rcnn_r50_fpn_gn_12e_detectron2"
