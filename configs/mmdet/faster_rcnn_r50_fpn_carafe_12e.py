"""Faster R-CNN, ResNet-50, FPN with CARAFE upsampling, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py``: box AP 38.6, published by mmdet. No compiled operator is needed.

    python tools/train.py configs/mmdet/faster_rcnn_r50_fpn_carafe_12e.py
"""

_base_ = "mmdet::carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN_CARAFE"))
