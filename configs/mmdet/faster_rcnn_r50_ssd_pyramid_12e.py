"""Faster R-CNN, ResNet-50, pyramid without a top-down path, 12 epochs of COCO (8 x 2 images).

A baseline of the FPN paper (arXiv:1612.03144, table 1 (d)): ``faster_rcnn_r50_fpn_12e`` whose levels are not merged.

    python tools/train.py configs/mmdet/faster_rcnn_r50_ssd_pyramid_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.SSDPyramid"))
