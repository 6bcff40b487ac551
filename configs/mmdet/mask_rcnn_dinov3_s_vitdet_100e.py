"""Mask R-CNN, DINOv3's ViT-S, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_dinov3_b_vitdet_100e`` with a quarter of the backbone's parameters, for small machines. No result has been
published.

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_s_vitdet_100e.py
"""

_base_ = "mask_rcnn_dinov3_b_vitdet_100e.py"
model = dict(backbone=dict(backbone=dict(name="vit_small_patch16_dinov3.lvd1689m")))
