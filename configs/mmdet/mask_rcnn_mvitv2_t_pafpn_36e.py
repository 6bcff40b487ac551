"""Mask R-CNN, MViTv2-T, PAFPN, 36 epochs of COCO at several scales (16 x 4 images).

``mask_rcnn_mvitv2_t_fpn_36e`` with another neck; no result has been published.

    python tools/train.py configs/mmdet/mask_rcnn_mvitv2_t_pafpn_36e.py
"""

_base_ = "mask_rcnn_mvitv2_t_fpn_36e.py"
model = dict(backbone=dict(neck=dict(type="PAFPN")))
