"""Mask R-CNN, DINOv3's ViT-B with LoRA, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_dinov3_b_vitdet_100e``, of which adapters of rank 8 on the attention (LoRA, arXiv:2106.09685), pyramid and
heads train, all at one rate, because adapters start from zero. No result and no rate for a detector has been published.
Needs peft; ``fpn_plugins.backbones.merge_lora`` makes a plain detector of the trained one.

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_b_vitdet_lora_100e.py
"""

_base_ = "mask_rcnn_dinov3_b_vitdet_100e.py"
model = dict(backbone=dict(backbone=dict(lora=dict(rank=8))))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
