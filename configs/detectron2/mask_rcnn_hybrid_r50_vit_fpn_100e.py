"""Mask R-CNN, C2-C4 from ResNet-50 and C5 from ViT-B, FPN, 100 epochs of COCO with large-scale jitter (184375 x 64).

``mask_rcnn_vitdet_b_100e`` with timm's hybrid ``vit_base_r50_s16_384``, pre-trained on ImageNet-21k. Its ResNetV2
counts as the layer below the first block; rates fall by 0.9 per layer, so that it learns at a quarter of the rate. No
result has been published. The mmdet file of the same stem shows how to get the weights.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_hybrid_r50_vit_fpn_100e.py
"""

from .common.vitdet import vitdet_adamw, vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, train

model = vitdet_model(
    dict(
        type="TimmHybrid",
        name="vit_base_r50_s16_384",
        drop_path_rate=0.1,
        checkpoint="data/weights/r50_vit_b.safetensors",
    ),
    neck="FPN",
)
model.pixel_mean = model.pixel_std = [127.5, 127.5, 127.5]
optimizer = vitdet_adamw(decay=0.9, depth=12)
train.init_checkpoint = ""
