"""Faster R-CNN, ResNet-50, PAFPN, 12 epochs of COCO (90000 iterations of 16 images).

``faster_rcnn_r50_fpn_12e`` with another neck. Detectron2 has no PAFPN; mmdet publishes box AP 37.5 for this network.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_pafpn_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.type = "PAFPN"
