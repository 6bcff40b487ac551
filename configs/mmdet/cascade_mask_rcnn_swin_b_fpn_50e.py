"""Cascade Mask R-CNN, Swin-B from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (32 x 2 images).

mmdet's own model and data (``cascade_mask_rcnn``, ``lsj-100e``) with the recipe of Detectron2's ViTDet project: AdamW
at 4e-5, weight decay of 0.05 except for norms and tables of relative positions, stochastic depth of 0.4, mixed
precision. That project publishes box AP 53.9, mask AP 46.2 with heads of four convolutions and layer norms, which mmdet
lacks.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_swin_b_fpn_50e.py
"""

_base_ = ["mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py", "mmdet::common/lsj-100e_coco-instance.py"]
weights = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224_22k.pth"
size = (1024, 1024)
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type="BatchFixedSizePad", size=size, pad_mask=True)]),
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.Swin",
        name="swin_base_patch4_window7_224",
        drop_path_rate=0.4,
        init_cfg=dict(type="Pretrained", checkpoint=weights),
    ),
    neck=dict(type="fpn_plugins.FPN", in_channels=[128, 256, 512, 1024]),
)

train_dataloader = dict(dataset=dict(times=2))  # 25 epochs of twice the data
test_pipeline = [
    dict(type="LoadImageFromFile", backend_args=None),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
)
epochs = 25
train_cfg = dict(max_epochs=epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", begin=0, end=epochs, by_epoch=True, milestones=[22, 24], gamma=0.1),
]
auto_scale_lr = dict(enable=False)  # mmdet's lsj-100e has the size of the batch alone; `--auto-scale-lr` needs both
