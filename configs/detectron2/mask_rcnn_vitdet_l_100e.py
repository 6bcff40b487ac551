"""Mask R-CNN, ViT-L, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 iterations of 64 images).

``mask_rcnn_vitdet_b_100e`` with ViT-L: box AP 55.5, mask AP 49.2, published by Detectron2, whose checkpoint (325599698)
loads as it is.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/mask_rcnn_vitdet_l_100e.py
"""

from .common.vitdet import mae_weights, vitdet_adamw
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, model, train

model.backbone.bottom_up.update(
    embed_dim=1024, depth=24, num_heads=16, drop_path_rate=0.4, global_block_indices=[5, 11, 17, 23]
)
optimizer = vitdet_adamw(decay=0.8, depth=24)
train.init_checkpoint = mae_weights("mae_pretrain_vit_large")
