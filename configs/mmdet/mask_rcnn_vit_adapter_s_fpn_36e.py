"""Mask R-CNN, ViT-Adapter-S, FPN, 36 epochs of COCO at several scales (8 x 2 images).

The published recipe (arXiv:2205.08534; ``mask_rcnn_deit_adapter_small_fpn_3x_coco`` of ViT-Adapter) as a delta to
mmdet's ``swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py``: box AP 48.2, mask AP 42.8, published by its authors,
whose detector loads unchanged (``load_from``). The weights of DeiT-S first:

    curl -o data/weights/deit_small_patch16_224-cd65a155.pth --create-dirs \\
        https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth
    python tools/train.py configs/mmdet/mask_rcnn_vit_adapter_s_fpn_36e.py
"""

_base_ = "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.ViTAdapter",
        vit=dict(
            embed_dim=384,
            num_heads=6,
            drop_path_rate=0.2,
            checkpoint="data/weights/deit_small_patch16_224-cd65a155.pth",
        ),
        norm="SyncBN",
    ),
    neck=dict(type="fpn_plugins.FPN", in_channels=[384, 384, 384, 384]),
)
_resize = dict(type="RandomChoiceResize", scales=[(side, 1333) for side in range(480, 801, 32)], keep_ratio=True)
_crop = [
    dict(type="RandomChoiceResize", scales=[(side, 1333) for side in (400, 500, 600)], keep_ratio=True),
    dict(type="RandomCrop", crop_type="absolute_range", crop_size=(384, 600), allow_negative_crop=True),
]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoice", transforms=[[_resize], [*_crop, _resize]]),
    dict(type="RandomCrop", crop_type="absolute_range", crop_size=(1024, 1024), allow_negative_crop=True),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            _delete_=True, **{name: dict(decay_mult=0.0) for name in ("level_embed", "pos_embed", "norm", "bias")}
        )
    )
)
