"""Mask R-CNN, ResNet-101, FPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py``: box AP 40.0, mask AP 36.1, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_r101_fpn_12e.py
"""

_base_ = "mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"))
