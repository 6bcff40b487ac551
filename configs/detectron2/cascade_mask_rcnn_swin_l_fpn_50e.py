"""Cascade Mask R-CNN, Swin-L from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (64 images a batch).

``cascade_mask_rcnn_swin_b_fpn_50e`` with the larger network, for which Detectron2's ViTDet project publishes box AP
55.0, mask AP 47.2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_swin_l_fpn_50e.py
"""

from .cascade_mask_rcnn_swin_b_fpn_50e import dataloader, lr_multiplier, model, optimizer, train
from .common.swin import swin_weights

model.backbone.bottom_up.name = "swin_large_patch4_window7_224"
train.init_checkpoint = swin_weights("swin_large_patch4_window7_224_22k")
