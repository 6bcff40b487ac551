"""Cascade Mask R-CNN, EVA-02 B, simple pyramid, 65 epochs of COCO with large-scale jitter (16 x 8 images).

The published recipe of ``eva02_B_coco_bsl``, box AP 55.5, mask AP 47.1 (baaivision/EVA, ``EVA-02/det``): 60000
iterations of 128 images, rates, drop path, decay of all weights, and windows of 16 tokens without a class token and
with positions of their own. timm fetches the pre-trained weights; their filters are resized from patches of 14 pixels
to 16.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_eva02_b_vitdet_65e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_100e.py"]

max_iters = 60000
model = dict(
    backbone=dict(
        backbone=dict(
            type="ViT",
            name="eva02_base_patch14_224.mim_in22k",
            patch_size=16,
            pretrained=True,
            drop_path_rate=0.1,
            window_size=16,
            prefix_tokens_in_windows="drop",
            window_positions="window",
            antialias_positions=False,
        )
    )
)
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(_delete_=True, decay_rate=0.7, num_layers=12))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", milestones=[48000, 54000], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
auto_scale_lr = dict(base_batch_size=128)
