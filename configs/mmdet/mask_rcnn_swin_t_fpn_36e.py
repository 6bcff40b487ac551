"""Mask R-CNN, Swin-T, FPN, 36 epochs of COCO at several scales (8 x 2 images).

mmdet's own config with our backbone and neck: same data, recipe and ImageNet weights. Expect the published result of
``swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py``: box AP 46.0, mask AP 41.6, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_swin_t_fpn_36e.py
"""

_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.FPN"))
