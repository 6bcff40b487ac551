"""Mask R-CNN with our FPN; anchors and regions are matched as in Detectron2 (``docs/same_training.md``).

Configs add the MViTv2.
"""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        neck=dict(type="FPN", out_channels=256, num_outs=5),
    ),
    neck=None,
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.0)),
        rcnn=dict(assigner=dict(match_low_quality=False)),
    ),
)
