"""RetinaNet with a timm MobileNetV2 and our FPN P3-P7 on the synthetic multi-scale set, small enough for two CPU cores.

    FPN_PLUGINS_COCO=data/synthetic_coco python tools/train.py configs/mmdet/demo_retinanet.py

``tools/demo.py --prepare-only`` prepares data and weights. The Detectron2 file of the same stem has the same
network.
"""

_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "_base_/demo.py"]

channels = 64
max_iters = 500

model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="TimmBackbone",
            name="mobilenetv2_100",
            out_indices=(2, 3, 4),
            checkpoint="data/weights/mobilenetv2_100.safetensors",
            frozen_stages=1,
            norm_eval=True,
        ),
        neck=dict(
            type="FPN",
            out_channels=channels,
            num_outs=5,
            add_extra_convs="on_input",
            relu_before_extra_convs=True,
            init_cfg=dict(type="Caffe2Xavier", layer="Conv2d"),
        ),
    ),
    neck=None,
    bbox_head=dict(
        in_channels=channels,
        feat_channels=channels,
        stacked_convs=2,
        num_classes={{_base_.num_classes}},
        anchor_generator=dict(octave_base_scale=1.5),  # 12 px on p3: the smallest objects measure 8 px
    ),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10.0),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=max_iters, milestones=[350, 450], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
