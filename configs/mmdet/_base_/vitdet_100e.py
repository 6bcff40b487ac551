"""ViTDet's schedule (arXiv:2203.16527, appendix): 100 epochs of COCO in batches of 64 (16 x 4 images).

Norms and position embeddings are not decayed; nor are the tokens and LayerScale's factors that foundation models have.

100 * 118287 / 64 is about 184375 iterations. ``ViTLayerDecay`` gives each parameter the learning rate and the weight
decay of Detectron2's recipe.
"""

_base_ = "mmdet::_base_/default_runtime.py"

max_iters = 184375
optim_wrapper = dict(
    type="AmpOptimWrapper",
    constructor="fpn_plugins.ViTLayerDecay",
    paramwise_cfg=dict(
        decay_rate=0.7,
        num_layers=12,
        norm_decay_mult=0.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ("pos_embed", "cls_token", "reg_token", "gamma")},
    ),
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[163889, 177546], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=3),
    logger=dict(log_metric_by_epoch=False),  # by iteration, like the losses
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=64)  # `--auto-scale-lr` enables it
