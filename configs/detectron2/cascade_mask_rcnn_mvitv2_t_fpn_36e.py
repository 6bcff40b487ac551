"""Cascade Mask R-CNN, MViTv2-T, FPN, 36 epochs of COCO at several scales (64 images a batch).

``mask_rcnn_mvitv2_t_fpn_36e`` with three box heads, for which Detectron2's ``projects/MViTv2`` publishes box AP 52.2,
mask AP 45.0 (``cascade_mask_rcnn_mvitv2_t_3x``).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_t_fpn_36e.py
"""

from .common.mvit import use_mvit_cascade
from .mask_rcnn_mvitv2_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train

use_mvit_cascade(model)
