"""Any COCO-format folder: splits, file names and classes are read from it; pipelines are those of mmdet's COCO.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Configs read
``num_classes`` from here.
"""

import importlib
import os

_base_ = "mmdet::_base_/datasets/coco_instance.py"

# with a plain import of a package, mmengine would take this for a new-style config, which cannot inherit from `mmdet::`
_find_split = importlib.import_module("fpn_plugins.data").find_split
_root = os.environ.get("FPN_PLUGINS_COCO", "data/coco")
_train, _val = _find_split(_root, "train"), _find_split(_root, "val")
classes = tuple(_train.categories)
num_classes = len(classes)

_train_set, _val_set = (
    dict(
        data_root="",
        metainfo=dict(classes=classes),
        ann_file=str(_split.ann_file),
        data_prefix=dict(img=str(_split.image_dir)),
    )
    for _split in (_train, _val)
)
# images with small sides are kept
train_dataloader = dict(dataset=dict(_train_set, filter_cfg=dict(_delete_=True, filter_empty_gt=True)))
val_dataloader = dict(dataset=_val_set)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=_val_set["ann_file"])
test_evaluator = val_evaluator

del importlib, os, _find_split, _root, _train, _val, _train_set, _val_set
