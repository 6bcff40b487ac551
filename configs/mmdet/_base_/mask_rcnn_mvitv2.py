"""Mask R-CNN with MViTv2-T and our FPN; anchors and regions matched as in Detectron2 (``docs/same_training.md``)."""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="MViT",
            name="mvitv2_tiny",
            drop_path_rate=0.2,
            gradient_checkpointing=False,
            checkpoint="data/weights/MViTv2_T_in1k.pyth",
        ),
        neck=dict(type="FPN", out_channels=256, num_outs=5),
    ),
    neck=None,
    train_cfg=dict(
        rpn=dict(assigner=dict(min_pos_iou=0.0)),
        rcnn=dict(assigner=dict(match_low_quality=False)),
    ),
)
