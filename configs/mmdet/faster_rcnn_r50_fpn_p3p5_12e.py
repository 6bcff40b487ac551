"""Faster R-CNN, ResNet-50, FPN without its finest level, 12 epochs of COCO (8 x 2 images).

``faster_rcnn_r50_fpn_12e`` on P3-P6, with anchors from 64 px. No result has been published.

    python tools/train.py configs/mmdet/faster_rcnn_r50_fpn_p3p5_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(
    neck=dict(type="fpn_plugins.FPN", start_level=1, num_outs=4),
    rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[8, 16, 32])),
)
