"""Mask R-CNN, PE-Spatial's ViT-B, simple pyramid, 36 epochs of COCO with large-scale jitter (66375 x 64 images).

Schedule, rate, decay of all weights, pixels, and windows with positions of their own are those of the published
detector of PE-Spatial G (box AP 57.8, mask AP 50.3), ``mask_rcnn_PEspatial_G_coco36ep`` of
facebookresearch/perception_models; layer-wise rates and drop path are ViTDet's for ViT-B. No result has been published
for this size. timm fetches the weights.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_pe_spatial_b_vitdet_36e.py
"""

from .common.recipe import EPOCHS_100, STEPS_100, schedule
from .common.vitdet import decay_all, vitdet_adamw, vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, train

model = vitdet_model(
    dict(
        type="ViT",
        name="vit_pe_spatial_base_patch16_512.fb",
        pretrained=True,
        drop_path_rate=0.1,
        window_size=32,
        prefix_tokens_in_windows="drop",
        window_positions="window",
        tile_positions=True,
    )
)
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]
optimizer = decay_all(vitdet_adamw(decay=0.7, depth=12, lr=5e-5))
train.max_iter = EPOCHS_100 * 36 // 100
lr_multiplier = schedule(train.max_iter, [step * 36 // 100 for step in STEPS_100])
train.init_checkpoint = ""
