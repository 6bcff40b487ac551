"""Mask R-CNN with a tiny ViT and the simple pyramid on the synthetic multi-scale set: a check of ViTDet's whole chain.

A ViT from scratch learns little from so few images, so do not expect a good score.

    python tools/make_synthetic_coco.py --help
    FPN_PLUGINS_COCO=FOLDER python tools/train.py configs/mmdet/demo_mask_rcnn_vitdet.py

The Detectron2 file of the same stem has the same network, data, and schedule.
"""

_base_ = "demo_mask_rcnn.py"

model = dict(
    data_preprocessor=dict(pad_size_divisor=320),  # one size for all images
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type="ViT",
            img_size=320,
            embed_dim=96,
            depth=4,
            num_heads=3,
            window_size=7,
            global_block_indices=(1, 3),
        ),
        neck=dict(type="SimpleFeaturePyramid"),
    ),
)
optim_wrapper = dict(
    constructor="fpn_plugins.ViTLayerDecay",
    paramwise_cfg=dict(
        _delete_=True,
        decay_rate=0.9,
        num_layers=4,
        norm_decay_mult=0.0,
        custom_keys={"pos_embed": dict(decay_mult=0.0)},
    ),
)
