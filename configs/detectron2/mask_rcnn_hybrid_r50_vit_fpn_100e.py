"""Mask R-CNN, C2-C4 of a ResNet-50 and C5 of a ViT-B, FPN, 100 epochs of COCO with large-scale jitter (184375 x 64).

``mask_rcnn_vitdet_b_100e`` with timm's hybrid ``vit_base_r50_s16_384``, pre-trained on ImageNet-21k, whose ResNetV2
counts as the layer below the first block; the rates fall by 0.9 per layer, so that it learns at a quarter of the rate.
Nobody has published a result for it. The weights first, as the mmdet file of the same stem says.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_hybrid_r50_vit_fpn_100e.py
"""

from .common.vitdet import adamw, pyramid_backbone
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, model, train

model.backbone = pyramid_backbone(
    {
        "type": "TimmHybrid",
        "name": "vit_base_r50_s16_384",
        "drop_path_rate": 0.1,
        "checkpoint": "data/weights/r50_vit_b.safetensors",
    },
    {"type": "FPN", "out_channels": 256, "norm": "LN", "extra_levels": {"num_levels": 1}},
)
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]
optimizer = adamw(decay=0.9, depth=12)
train.init_checkpoint = ""
train.output_dir = "work_dirs/mask_rcnn_hybrid_r50_vit_fpn_100e_detectron2"
