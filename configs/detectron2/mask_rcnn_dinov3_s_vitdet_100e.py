"""Mask R-CNN, DINOv3's ViT-S, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 x 64 images).

``mask_rcnn_dinov3_b_vitdet_100e`` with a quarter of the backbone's parameters, for small machines. No result has been
published.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_dinov3_s_vitdet_100e.py
"""

from .mask_rcnn_dinov3_b_vitdet_100e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.name = "vit_small_patch16_dinov3.lvd1689m"
