"""Sanity check of the whole chain: overfit ``study_mask_rcnn`` on 16 photographs.

    python tools/demo.py --prepare-only
    python tools/make_coco_subset.py data/coco data/coco16 --num-images 16
    FPN_PLUGINS_COCO=data/coco16 python tools/train.py configs/mmdet/mask_rcnn_overfit.py

Trains and evaluates on the same 16 images; the final box AP50 has to be 0.8 or more.
"""

_base_ = "study_mask_rcnn.py"

max_iters = 1000
image_scale = (512, 384)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=image_scale, keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
