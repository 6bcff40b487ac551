"""Mask R-CNN, ResNet-50, FPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py``: box AP 38.2, mask AP 34.7, published by mmdet.

    python tools/train.py configs/mmdet/mask_rcnn_r50_fpn_12e.py
"""

_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"))
