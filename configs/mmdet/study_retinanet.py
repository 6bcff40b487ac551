"""RetinaNet of the ablation studies: ``demo_retinanet`` with group norm in its head, trained with AdamW.

It learns the synthetic set several times as fast as ``demo_retinanet``, so a study has time for many trainings.
``tools/studies/ablations/study.py`` varies its pyramid, anchors and length. The Detectron2 file of the same stem has
the same network and schedule.
"""

_base_ = "demo_retinanet.py"

max_iters = 300

model = dict(bbox_head=dict(norm_cfg=dict(type="GN", num_groups=32)))
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    # a tenth for the pre-trained backbone, as in `demo_mask_rcnn`
    paramwise_cfg=dict(custom_keys={"backbone.backbone": dict(lr_mult=0.1)}),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
