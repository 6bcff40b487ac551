"""Mask R-CNN on DINOv3's frozen ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_dinov3_b_vitdet_100e``, of which only pyramid and heads train. Every block is global, because a network that
does not train cannot adapt to windows. No result has been published with these heads; DINOv3's own detector on the
frozen 7B network is a DETR with box AP 66.1 (arXiv:2508.10104, table 10).

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_b_vitdet_frozen_100e.py
"""

_base_ = "mask_rcnn_dinov3_b_vitdet_100e.py"
model = dict(backbone=dict(backbone=dict(drop_path_rate=0.0, window_size=0, frozen_stages=12)))
