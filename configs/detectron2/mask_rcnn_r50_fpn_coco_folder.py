"""Mask R-CNN, ResNet-50, FPN, 90000 iterations of 16 images of any COCO-format folder.

    CONFIG=configs/detectron2/mask_rcnn_r50_fpn_coco_folder.py
    FPN_PLUGINS_COCO=data/my_set python tools/train_net.py --config-file $CONFIG

The classes are found by themselves. Starts from ImageNet weights; add ``train.init_checkpoint=FILE`` to start from a
detector, ``train.max_iter=N`` for a shorter schedule.
"""

from .common.coco_folder import dataloader, num_classes
from .mask_rcnn_r50_fpn_12e import lr_multiplier, model, optimizer, train

model.roi_heads.num_classes = num_classes
train.output_dir = "work_dirs/mask_rcnn_r50_fpn_coco_folder_detectron2"
