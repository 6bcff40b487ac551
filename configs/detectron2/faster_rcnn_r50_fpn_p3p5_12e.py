"""Faster R-CNN, ResNet-50, FPN without its finest level, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's Faster R-CNN but for the levels: P3-P6, anchors from 64 px. No result has been published for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_p3p5_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.in_indices = [1, 2, 3]
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.strides = [8, 16, 32, 64]
model.proposal_generator.anchor_generator.sizes = [[64], [128], [256], [512]]
model.roi_heads.box_in_features = ["p3", "p4", "p5"]
model.roi_heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
train.output_dir = "work_dirs/faster_rcnn_r50_fpn_p3p5_12e_detectron2"
