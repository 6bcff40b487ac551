"""Faster R-CNN, ResNet-50, PAFPN, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``pafpn/faster-rcnn_r50_pafpn_1x_coco.py``: box AP 37.5, published by mmdet.

    python tools/train.py configs/mmdet/faster_rcnn_r50_pafpn_12e.py
"""

_base_ = "mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.PAFPN"))
