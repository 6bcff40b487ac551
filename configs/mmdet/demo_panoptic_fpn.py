"""Panoptic FPN with a timm MobileNetV2, our FPN and our semantic head on the synthetic set, for two CPU cores.

    python tools/demo.py --prepare-only          # prepares the weights
    python tools/make_synthetic_coco.py data/synthetic_panoptic --panoptic
    FPN_PLUGINS_COCO=data/synthetic_panoptic python tools/train.py configs/mmdet/demo_panoptic_fpn.py

``demo_mask_rcnn`` with a semantic head. The Detectron2 file of the same stem has the same network, data, and schedule.
"""

_base_ = "demo_mask_rcnn.py"

# mmengine takes a config that imports a package for one of its new style, which cannot inherit from `mmdet::`; mmengine
# 0.10.7 takes even the standard library for a package (on Python 3.11), so there is no import statement here
_data = __import__("fpn_plugins.data").data
_train, _val = _data.environment_splits(_data.find_panoptic_split)
_things, _stuff = tuple(_train.things.values()), tuple(_train.stuff.values())
_metainfo = dict(classes=_things + _stuff, thing_classes=_things, stuff_classes=_stuff)
num_things, num_stuff = len(_things), len(_stuff)

model = dict(
    type="PanopticFPN",
    data_preprocessor=dict(mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    semantic_head=dict(
        type="fpn_plugins.PanopticFPNHead",
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
        in_channels={{_base_.channels}},
        inner_channels={{_base_.channels}},
        loss_seg=dict(type="CrossEntropyLoss", ignore_index=255, loss_weight=0.5),
    ),
    panoptic_fusion_head=dict(type="HeuristicFusionHead", num_things_classes=num_things, num_stuff_classes=num_stuff),
    test_cfg=dict(
        rcnn=dict(score_thr=0.5, nms=dict(class_agnostic=True)),
        # px; the default of 4096 is for COCO's images, which are four times as large
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=256),
    ),
)

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CocoPanopticDataset",
        metainfo=_metainfo,
        ann_file=str(_train.ann_file),
        data_prefix=dict(img=str(_train.image_dir), seg=str(_train.mask_dir)),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadPanopticAnnotations"),
            dict(type="Resize", scale=(320, 240), keep_ratio=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CocoPanopticDataset",
        metainfo=_metainfo,
        ann_file=str(_val.ann_file),
        data_prefix=dict(img=str(_val.image_dir), seg=str(_val.mask_dir)),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(320, 240), keep_ratio=True),
            dict(type="LoadPanopticAnnotations"),
            dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type="CocoPanopticMetric", ann_file=str(_val.ann_file), seg_prefix=str(_val.mask_dir)
)
test_evaluator = val_evaluator

del _data, _train, _val, _things, _stuff, _metainfo
