"""Mask R-CNN with a tiny rotary ViT and the simple pyramid on the synthetic set, trained from scratch.

EVA-02's design (rotary positions, SwiGLU, a class token) with patches of 8 pixels, windows, and two global blocks;
images keep their aspect ratio.

    python tools/demo.py --config demo_mask_rcnn_rotary_vit

The Detectron2 file of the same stem has the same network, data, and schedule.
"""

_base_ = "demo_mask_rcnn.py"

max_iters = 800

model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type="ViT",
            name="eva02_tiny_patch14_224",
            patch_size=8,
            embed_dim=96,
            depth=6,
            num_heads=3,
            window_size=10,
            global_block_indices=(2, 5),
        ),
        neck=dict(type="SimpleFeaturePyramid", scale_factors=(2.0, 1.0, 0.5, 0.25)),
    ),
)
optim_wrapper = dict(
    constructor="fpn_plugins.ViTLayerDecay",
    paramwise_cfg=dict(
        _delete_=True,
        decay_rate=0.9,
        num_layers=6,
        norm_decay_mult=0.0,
        custom_keys={"pos_embed": dict(decay_mult=0.0)},
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
