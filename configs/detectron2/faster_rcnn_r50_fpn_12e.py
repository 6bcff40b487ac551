"""Faster R-CNN, ResNet-50, FPN, 12 epochs of COCO (90000 iterations of 16 images).

``mask_rcnn_r50_fpn_12e`` without masks, which is Detectron2's ``faster_rcnn_R_50_FPN_1x`` with our neck: box AP 37.9,
published by Detectron2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_12e.py
"""

from .mask_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

for _part in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(_part)
dataloader.train.mapper.use_instance_mask = False
