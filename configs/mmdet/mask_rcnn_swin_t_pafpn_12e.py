"""Mask R-CNN, Swin-T, PAFPN, 12 epochs of COCO (8 x 2 images).

``mask_rcnn_swin_t_fpn_12e`` with another neck; no result has been published (with FPN: box AP 42.7, mask AP 39.3,
published by mmdet).

    python tools/train.py configs/mmdet/mask_rcnn_swin_t_pafpn_12e.py
"""

_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.PAFPN"))
