"""Mask R-CNN, PE-Spatial's ViT-B, simple pyramid, 36 epochs of COCO with large-scale jitter (16 x 4 images).

Schedule, rate, decay of all weights, pixels, and windows with positions of their own are those of the published
detector of PE-Spatial G (box AP 57.8, mask AP 50.3), ``mask_rcnn_PEspatial_G_coco36ep`` of
facebookresearch/perception_models; layer-wise rates and drop path are ViTDet's for ViT-B. No result has been published
for this size. timm fetches the weights.

    python tools/train.py configs/mmdet/mask_rcnn_pe_spatial_b_vitdet_36e.py
"""

_base_ = ["_base_/mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_100e.py"]

max_iters = 66375  # 184375 * 36 / 100
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        backbone=dict(
            type="ViT",
            name="vit_pe_spatial_base_patch16_512.fb",
            pretrained=True,
            drop_path_rate=0.1,
            window_size=32,
            prefix_tokens_in_windows="drop",
            window_positions="window",
            tile_positions=True,
        )
    ),
)
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(_delete_=True, decay_rate=0.7, num_layers=12))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[59000, 63916], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
