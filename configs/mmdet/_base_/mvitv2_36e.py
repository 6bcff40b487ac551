"""MViTv2's schedule (``projects/MViTv2`` of Detectron2): 36 epochs of COCO in batches of 64, 16 GPUs with 4 images.

Norms and relative positions are not decayed.
"""

_base_ = "mmdet::_base_/default_runtime.py"

max_iters = 67500
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=1.6e-4, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0), rel_pos_h=dict(decay_mult=0.0), rel_pos_w=dict(decay_mult=0.0)
        ),
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[52500, 62500], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=3))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
