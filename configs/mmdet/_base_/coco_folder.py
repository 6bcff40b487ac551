"""Any COCO-format folder: splits, file names and classes are found by themselves.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Its classes become the
data set's; configs take ``num_classes`` from here.
"""

import importlib
import os

# a plain import of a package would make mmengine take this for a new-style config, which cannot inherit from `mmdet::`
_find_split = importlib.import_module("fpn_plugins.data").find_split
_root = os.environ.get("FPN_PLUGINS_COCO", "data/coco")
_train, _val = _find_split(_root, "train"), _find_split(_root, "val")
classes = tuple(_train.categories)
num_classes = len(classes)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDataset",
        metainfo=dict(classes=classes),
        ann_file=str(_train.ann_file),
        data_prefix=dict(img=str(_train.image_dir)),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        metainfo=dict(classes=classes),
        ann_file=str(_val.ann_file),
        data_prefix=dict(img=str(_val.image_dir)),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=str(_val.ann_file), metric=["bbox", "segm"])
test_evaluator = val_evaluator

del importlib, os, _find_split, _root, _train, _val
