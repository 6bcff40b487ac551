"""MViTv2-T and its schedule (Detectron2's ``projects/MViTv2``): 36 epochs of COCO in batches of 64 (16 x 4 images).

Norms and relative positions are not decayed. Configs read ``mvit`` from here.
"""

_base_ = "vitdet_100e.py"

mvit = dict(
    type="MViT",
    name="mvitv2_tiny",
    drop_path_rate=0.2,
    gradient_checkpointing=False,
    checkpoint="data/weights/MViTv2_T_in1k.pyth",
)
max_iters = 67500
optim_wrapper = dict(
    _delete_=True,
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=1.6e-4, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ("pos_embed", "rel_pos_h", "rel_pos_w")},
    ),
)
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[52500, 62500], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
