"""Mask R-CNN, Swin-S, FPN, 36 epochs of COCO (270000 iterations of 16 images, mixed precision).

``mask_rcnn_swin_t_fpn_36e`` with the deeper network; mmdet's config of it publishes box AP 48.2, mask AP 43.2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_s_fpn_36e.py
"""

from .mask_rcnn_swin_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train

_tiny, _small = "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224"
model.backbone.bottom_up.name = _small
train.init_checkpoint = train.init_checkpoint.replace(_tiny, _small)
train.amp.enabled = True
train.output_dir = "work_dirs/mask_rcnn_swin_s_fpn_36e_detectron2"
