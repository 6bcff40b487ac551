"""Mask R-CNN, Swin-T, PAFPN, 12 epochs of COCO (90000 iterations of 16 images).

``mask_rcnn_swin_t_fpn_12e`` with another neck; no result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_t_pafpn_12e.py
"""

from .mask_rcnn_swin_t_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.type = "PAFPN"
