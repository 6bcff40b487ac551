"""Cascade Mask R-CNN, ViT-L, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 x 64 images).

``mask_rcnn_vitdet_l_100e`` with three box heads: box AP 57.6, mask AP 50.0, published by Detectron2, whose checkpoint
(328021305) loads as it is.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/cascade_mask_rcnn_vitdet_l_100e.py
"""

from .common.cascade import use_cascade
from .mask_rcnn_vitdet_l_100e import dataloader, lr_multiplier, model, optimizer, train

use_cascade(model)
