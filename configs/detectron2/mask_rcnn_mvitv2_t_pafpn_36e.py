"""Mask R-CNN, MViTv2-T, PAFPN, 36 epochs of COCO at several scales (64 images a batch).

``mask_rcnn_mvitv2_t_fpn_36e`` with another neck; no result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_mvitv2_t_pafpn_36e.py
"""

from .mask_rcnn_mvitv2_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.type = "PAFPN"
