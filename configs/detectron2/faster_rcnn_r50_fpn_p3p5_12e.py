"""Faster R-CNN, ResNet-50, FPN without its finest level, 12 epochs of COCO (90000 iterations of 16 images).

``faster_rcnn_r50_fpn_12e`` on P3-P6, with anchors from 64 px. No result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_p3p5_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.in_indices = [1, 2, 3]
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.strides = [8, 16, 32, 64]
model.proposal_generator.anchor_generator.sizes = [[64], [128], [256], [512]]
model.roi_heads.box_in_features = ["p3", "p4", "p5"]
model.roi_heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
