"""Mask R-CNN with a tiny rotary ViT and the simple pyramid on the synthetic set, trained from scratch.

EVA-02's design (rotary positions, SwiGLU, a class token) with patches of 8 pixels, windows, and two global blocks;
images keep their aspect ratio.

    python tools/demo.py --config demo_mask_rcnn_rotary_vit

The mmdet file of the same stem has the same network, data, and schedule.
"""

from functools import partial

from fpn_plugins.training import vit_lr_factor

from .demo_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = dict(
    type="ViT",
    name="eva02_tiny_patch14_224",
    patch_size=8,
    embed_dim=96,
    depth=6,
    num_heads=3,
    window_size=10,
    global_block_indices=[2, 5],
)
model.backbone.neck.update(type="SimpleFeaturePyramid", norm="LN", scale_factors=[2.0, 1.0, 0.5, 0.25])
model.backbone.size_divisibility = 32
optimizer.params.weight_decay_norm = 0.0
optimizer.params.lr_factor_func = partial(vit_lr_factor, decay=0.9, depth=6)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
train.max_iter = train.eval_period = train.checkpointer.period = 800
lr_multiplier.warmup_length = 50 / train.max_iter
