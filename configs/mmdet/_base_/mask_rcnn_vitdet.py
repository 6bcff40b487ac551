"""Mask R-CNN of ViTDet: simple pyramid, two convolutions in the RPN, LayerNorm in the heads; configs add the ViT.

Anchors and regions are matched as in Detectron2 (``docs/same_training.md``).
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

channel_norm = dict(type="fpn_plugins.LN2d", eps=1e-6)
model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # with zeros, after normalization
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        neck=dict(type="SimpleFeaturePyramid", out_channels=256, num_outs=5, norm_cfg=channel_norm),
    ),
    neck=None,
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type="Shared4Conv1FCBBoxHead", conv_out_channels=256, norm_cfg=channel_norm),
        mask_head=dict(norm_cfg=channel_norm),
    ),
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.0)),
        rcnn=dict(assigner=dict(match_low_quality=False)),
    ),
)
