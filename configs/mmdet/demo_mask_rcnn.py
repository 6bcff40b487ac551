"""Mask R-CNN with a timm MobileNetV2 and our FPN on the synthetic multi-scale set, small enough for two CPU cores.

    python tools/demo.py --toolbox mmdet        # prepares data and weights, trains with this file, evaluates

The Detectron2 file of the same stem has the same network, data, and schedule.
"""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "_base_/demo_masks.py"]

channels = 64
max_iters = 400

model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="TimmBackbone",
            name="mobilenetv2_100",
            checkpoint="data/weights/mobilenetv2_100.safetensors",
            frozen_stages=1,
            norm_eval=True,
        ),
        neck=dict(type="FPN", out_channels=channels, num_outs=5),
    ),
    neck=None,
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4]),  # 16 px on p2: the smallest objects measure 8 px
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes={{_base_.num_classes}}),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels, num_classes={{_base_.num_classes}}
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)
train_dataloader = dict(batch_size=2)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    # a tenth for the pre-trained backbone, whose last stage dies within a hundred iterations at the full rate
    paramwise_cfg=dict(custom_keys={"backbone.backbone": dict(lr_mult=0.1)}),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
