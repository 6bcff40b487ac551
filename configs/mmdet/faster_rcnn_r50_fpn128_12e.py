"""Faster R-CNN, ResNet-50, FPN of 128 channels, 12 epochs of COCO (8 x 2 images).

mmdet's Faster R-CNN but for the 128 channels of pyramid and heads. No result has been published for it.

    python tools/train.py configs/mmdet/faster_rcnn_r50_fpn128_12e.py
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
channels = 128
model = dict(
    neck=dict(type="fpn_plugins.FPN", out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=channels), bbox_head=dict(in_channels=channels)),
)
