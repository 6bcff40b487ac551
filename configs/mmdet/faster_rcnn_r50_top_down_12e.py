"""Faster R-CNN, ResNet-50, top-down pyramid without laterals, 12 epochs of COCO (8 x 2 images).

A baseline of the FPN paper (arXiv:1612.03144, table 1 (e)): ``faster_rcnn_r50_fpn_12e`` with no laterals but C5's.

    python tools/train.py configs/mmdet/faster_rcnn_r50_top_down_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.TopDownPyramid"))
