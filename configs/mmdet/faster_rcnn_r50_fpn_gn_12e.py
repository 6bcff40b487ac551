"""Faster R-CNN, ResNet-50, FPN with group norm, 12 epochs of COCO (8 x 2 images).

``faster_rcnn_r50_fpn_12e`` with group norm after each convolution of the pyramid. No result has been published.

    python tools/train.py configs/mmdet/faster_rcnn_r50_fpn_gn_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN", norm_cfg=dict(type="GN", num_groups=32, requires_grad=True)))
