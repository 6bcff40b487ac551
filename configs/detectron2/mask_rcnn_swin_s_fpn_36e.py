"""Mask R-CNN, Swin-S, FPN, 36 epochs of COCO (270000 iterations of 16 images, mixed precision).

``mask_rcnn_swin_t_fpn_36e`` with the deeper network; mmdet publishes box AP 48.2, mask AP 43.2 for its config of it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_s_fpn_36e.py
"""

from .common.swin import swin_weights
from .mask_rcnn_swin_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.name = "swin_small_patch4_window7_224"
train.init_checkpoint = swin_weights("swin_small_patch4_window7_224")
train.amp.enabled = True
