"""Mask R-CNN, DINOv3's ViT-B with LoRA, simple pyramid, 100 epochs of COCO with large-scale jitter (x 64).

``mask_rcnn_dinov3_b_vitdet_100e``, of which adapters of rank 8 on the attention (LoRA, arXiv:2106.09685), pyramid and
heads train, all at one rate, because adapters start from zero. No result and no rate for a detector has been published.
Needs peft; ``fpn_plugins.backbones.merge_lora`` makes a plain detector of the trained one.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_dinov3_b_vitdet_lora_100e.py
"""

from .common.vitdet import vitdet_adamw
from .mask_rcnn_dinov3_b_vitdet_100e import dataloader, lr_multiplier, model, train

model.backbone.bottom_up.lora = dict(rank=8)
optimizer = vitdet_adamw(decay=1.0, depth=12)
