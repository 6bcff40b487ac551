"""Cascade Mask R-CNN of MViTv2: three class-agnostic box heads of four convolutions, an RPN of two, batch norm.

Anchors are matched and proposals selected as in Detectron2 (``docs/same_training.md``). Configs add the MViTv2.
"""

_base_ = "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"

_norm = dict(type="SyncBN", requires_grad=True)
_box_heads = [
    dict(
        type="Shared4Conv1FCBBoxHead",
        in_channels=256,
        num_classes=80,
        norm_cfg=_norm,
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=[place, place, size, size]),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False),
        loss_bbox=dict(type="L1Loss"),
    )
    for place, size in ((1 / 10, 1 / 5), (1 / 20, 1 / 10), (1 / 30, 1 / 15))
]
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        neck=dict(type="FPN", out_channels=256, num_outs=5),
    ),
    neck=None,
    rpn_head=dict(num_convs=2, loss_bbox=dict(_delete_=True, type="L1Loss")),
    roi_head=dict(bbox_head=_box_heads, mask_head=dict(norm_cfg=_norm)),
    train_cfg=dict(rpn=dict(assigner=dict(min_pos_iou=0.0), allowed_border=-1), rpn_proposal=dict(max_per_img=1000)),
)
