"""Faster R-CNN, ResNet-50, one map: C5, 12 epochs of COCO (8 x 2 images).

mmdet's Faster R-CNN but for the features: C5 alone at stride 32, with anchors of all sizes on it.
The FPN paper (arXiv:1612.03144, table 1 (a) and (b)) has the same comparison for RPN.

    python tools/train.py configs/mmdet/faster_rcnn_r50_single_scale_c5_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
model = dict(
    neck=dict(type="fpn_plugins.SingleScale", start_level=3, num_outs=1),
    rpn_head=dict(anchor_generator=dict(scales=[1, 2, 4, 8, 16], strides=[32])),  # 32 to 512 px
    roi_head=dict(bbox_roi_extractor=dict(featmap_strides=[32])),
)
