"""Mask R-CNN, ResNet-50, FPN, any COCO-format folder (90000 iterations of 16 images).

    CONFIG=configs/detectron2/mask_rcnn_r50_fpn_coco_folder.py
    FPN_PLUGINS_COCO=data/my_set python tools/train_net.py --config-file $CONFIG

``mask_rcnn_r50_fpn_12e`` with the classes of the folder's annotations. Starts from ImageNet weights; add
``train.init_checkpoint=FILE`` to start from a detector, and for a shorter schedule
``train.max_iter=N lr_multiplier.warmup_length=W`` with W = 250 / N, the part that warms up.
"""

import torch

from .common.coco_folder import dataloader, num_classes
from .mask_rcnn_r50_fpn_12e import lr_multiplier, model, optimizer, train

model.roi_heads.num_classes = num_classes
train.device = "cuda" if torch.cuda.is_available() else "cpu"
