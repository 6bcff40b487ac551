"""Mask R-CNN with a timm MobileNetV2 and our FPN on the synthetic multi-scale set, small enough for two CPU cores.

    python tools/demo.py --toolbox mmdet        # makes data and weights, trains with this file, evaluates

The Detectron2 file of the same stem has the same network, data, and schedule.
"""

_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "mmdet::_base_/default_runtime.py", "_base_/demo_data.py"]

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
            frozen_stages=0,
            norm_eval=True,
        ),
        neck=dict(type="FPN", out_channels=channels, num_outs=5),
    ),
    neck=None,
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4]),  # 16 px on p2: the smallest objects have 8
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes={{_base_.num_classes}}),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels, num_classes={{_base_.num_classes}}
        ),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=250), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    # a tenth for the pre-trained backbone: at the full rate its last stage dies within the first hundred iterations
    paramwise_cfg=dict(custom_keys={"backbone.backbone": dict(lr_mult=0.1)}),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(
    # the published file holds the weights without the training's state
    checkpoint=dict(by_epoch=False, interval=max_iters, published_keys=["meta", "state_dict"]),
    logger=dict(interval=20),
)
log_processor = dict(by_epoch=False)
