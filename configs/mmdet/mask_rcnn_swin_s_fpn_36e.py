"""Mask R-CNN, Swin-S, FPN, 36 epochs of COCO at several scales (8 x 2 images, mixed precision).

mmdet's own config with our backbone and neck: same data, recipe and ImageNet weights. Expect the published result of
``swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py``: box AP 48.2, mask AP 43.2, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_swin_s_fpn_36e.py
"""

_base_ = "mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.FPN"))
