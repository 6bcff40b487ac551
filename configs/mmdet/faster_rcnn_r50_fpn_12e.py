"""Faster R-CNN, ResNet-50, FPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py``: box AP 37.4, published by mmdet.

    python tools/train.py configs/mmdet/faster_rcnn_r50_fpn_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"))
