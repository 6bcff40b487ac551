"""Mask R-CNN with a tiny ViT and the simple pyramid on the synthetic multi-scale set: a check of ViTDet's whole chain.

A ViT from scratch learns little from so few images, so do not expect a good score.

    FPN_PLUGINS_COCO=FOLDER python tools/train_net.py --config-file configs/detectron2/demo_mask_rcnn_vitdet.py

The mmdet file of the same stem has the same network, data, and schedule.
"""

from functools import partial

from fpn_plugins.training import vit_lr_factor

from .demo_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = dict(
    type="ViT", img_size=320, embed_dim=96, depth=4, num_heads=3, window_size=7, global_block_indices=[1, 3]
)
model.backbone.neck.update(type="SimpleFeaturePyramid", norm="LN")
model.backbone.square_pad = 320  # one size for all images
optimizer.params.weight_decay_norm = 0.0
optimizer.params.lr_factor_func = partial(vit_lr_factor, decay=0.9, depth=4)
optimizer.params.overrides = {"pos_embed": {"weight_decay": 0.0}}
