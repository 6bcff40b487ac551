"""Cascade Mask R-CNN, ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with three box heads: box AP 54.0, mask AP 46.7, published by Detectron2. mmdet weights the
losses of the stages 1, 0.5, 0.25, and trains a mask head per stage, whose masks it averages; Detectron2 weights them
alike, scales their gradients by a third, and has one mask head.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_vitdet_b_100e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"

_box_heads = [
    dict(
        type="Shared4Conv1FCBBoxHead",
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        roi_feat_size=7,
        num_classes=80,
        norm_cfg=dict(type="fpn_plugins.LN2d", eps=1e-6),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=stds),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )
    for stds in ([1 / 10, 1 / 10, 1 / 5, 1 / 5], [1 / 20, 1 / 20, 1 / 10, 1 / 10], [1 / 30, 1 / 30, 1 / 15, 1 / 15])
]
_stages = [
    dict(
        assigner=dict(
            type="MaxIoUAssigner", pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou, match_low_quality=False
        ),
        sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )
    for iou in (0.5, 0.6, 0.7)
]
model = dict(
    type="CascadeRCNN",
    roi_head=dict(type="CascadeRoIHead", num_stages=3, stage_loss_weights=[1, 0.5, 0.25], bbox_head=_box_heads),
    train_cfg=dict(rcnn=_stages),
)
