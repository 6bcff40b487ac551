"""Mask R-CNN, Swin-T, FPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our backbone and neck: same data, recipe and ImageNet weights. Expect the published result of
``swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py``: box AP 42.7, mask AP 39.3, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_swin_t_fpn_12e.py
"""

_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.FPN"))
