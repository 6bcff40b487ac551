"""Mask R-CNN, ResNet-101, FPN, 12 epochs of COCO (90000 iterations of 16 images).

``mask_rcnn_r50_fpn_12e`` with the deeper network, which Detectron2 publishes for 37 epochs only (box AP 42.9, mask AP
38.6).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_r101_fpn_12e.py
"""

from .mask_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
