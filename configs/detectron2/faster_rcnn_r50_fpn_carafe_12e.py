"""Faster R-CNN, ResNet-50, FPN with CARAFE upsampling, 12 epochs of COCO (90000 iterations of 16 images).

``faster_rcnn_r50_fpn_12e`` with another upsampling. Detectron2 has no CARAFE; mmdet publishes box AP 38.6 for this
network. As in mmdet's, P6 is a convolution of C5, the top-down path starts there, and images are padded to multiples of
its stride.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn_carafe_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.upsample_mode = "carafe"
model.backbone.neck.extra_levels = dict(num_levels=1, op="conv", source="input", bare=False, in_top_down=True)
model.backbone.size_divisibility = 64
