"""Cascade Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (138281 x 64 images).

``mask_rcnn_vitdet_h_75e`` with three box heads: box AP 58.7, mask AP 51.0, published by Detectron2, whose checkpoint
(328730692) loads as it is.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/cascade_mask_rcnn_vitdet_h_75e.py
"""

from .common.cascade import use_cascade
from .mask_rcnn_vitdet_h_75e import dataloader, lr_multiplier, model, optimizer, train

use_cascade(model)
