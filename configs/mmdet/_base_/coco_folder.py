"""Any COCO-format folder, for boxes alone: splits, file names and classes are read from it; pipelines are mmdet's.

The environment variable FPN_PLUGINS_COCO names the folder (default: data/coco, the full COCO). Configs read
``num_classes`` from here. Detectors with masks have ``coco_folder_masks.py`` as their base.
"""

_base_ = "mmdet::_base_/datasets/coco_detection.py"

# mmengine takes a config that imports a package for one of its new style, which cannot inherit from `mmdet::`; mmengine
# 0.10.7 takes even the standard library for a package (on Python 3.11), so there is no import statement here
_train, _val = __import__("fpn_plugins.data").data.environment_splits()
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

del _train, _val, _train_set, _val_set
