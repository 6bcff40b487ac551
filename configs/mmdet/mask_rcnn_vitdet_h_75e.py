"""Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with ViT-H and three quarters of its iterations: box AP 56.7, mask AP 50.2, published by
Detectron2. Position embeddings and norms are decayed like the rest, as in Detectron2's config. Weights: MAE's ViT-H
with its filters resized from patches of 14 pixels to 16, published by Detectron2.

    curl -o data/weights/mae_pretrain_vit_huge_p14to16.pth --create-dirs \\
        https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MAE/mae_pretrain_vit_huge_p14to16.pth
    python tools/train.py configs/mmdet/mask_rcnn_vitdet_h_75e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"
max_iters = 138281  # 184375 * 3 / 4
model = dict(
    backbone=dict(
        backbone=dict(
            embed_dim=1280,
            depth=32,
            num_heads=16,
            drop_path_rate=0.5,
            global_block_indices=(7, 15, 23, 31),
            checkpoint="data/weights/mae_pretrain_vit_huge_p14to16.pth",
        )
    )
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, decay_rate=0.9, num_layers=32))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[122916, 133159], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
