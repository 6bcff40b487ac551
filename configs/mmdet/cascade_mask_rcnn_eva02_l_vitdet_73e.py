"""Cascade Mask R-CNN, EVA-02 L, simple pyramid, 73 epochs of COCO with large-scale jitter (16 x 9 images).

The published recipe of ``eva02_L_coco_bsl``, box AP 59.2, mask AP 50.8 (baaivision/EVA, ``EVA-02/det``):
``cascade_mask_rcnn_eva02_b_vitdet_65e`` with EVA-02 L, its rates and drop path, and 144 images in an iteration.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_eva02_l_vitdet_73e.py
"""

_base_ = "cascade_mask_rcnn_eva02_b_vitdet_65e.py"
model = dict(backbone=dict(backbone=dict(name="eva02_large_patch14_224.mim_m38m", drop_path_rate=0.4)))
train_dataloader = dict(batch_size=9)
optim_wrapper = dict(optimizer=dict(lr=6e-5), paramwise_cfg=dict(decay_rate=0.8, num_layers=24))
auto_scale_lr = dict(base_batch_size=144)
