"""Mask R-CNN, ResNeXt-101 32x8d, FPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``mask_rcnn/mask-rcnn_x101-32x8d_fpn_1x_coco.py``: box AP 42.8, mask AP 38.3, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_x101_32x8d_fpn_12e.py
"""

_base_ = "mmdet::mask_rcnn/mask-rcnn_x101-32x8d_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"))
