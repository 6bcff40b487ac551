"""Faster R-CNN with a timm MobileNetV2 and our FPN on photographs of blood cells, for the pictures of the README.

    python tools/demo.py --prepare-only                                  # writes the ImageNet weights
    FPN_PLUGINS_COCO=data/bccd python tools/train.py tools/docs/cells_config.py --work-dir work_dirs/cells

``data/bccd`` is the BCCD data set (https://github.com/Shenggan/BCCD_Dataset, MIT license) in COCO's format.
"""

_base_ = ["mmdet::_base_/models/faster-rcnn_r50_fpn.py", "../../configs/mmdet/_base_/demo.py"]

channels = 64
max_iters = 600
scale = (480, 360)

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
        anchor_generator=dict(scales=[5]),  # platelets measure about 20 px at this scale
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28),  # cells on p2 to p4
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes={{_base_.num_classes}}),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"backbone.backbone": dict(lr_mult=0.1)}),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
