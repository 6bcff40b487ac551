"""Mask R-CNN, ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 iterations of 64 images).

Detectron2's ``projects/ViTDet`` with our ViT and pyramid: box AP 51.6, mask AP 45.9, published by Detectron2, whose
checkpoint (325346929) loads as it is.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/mask_rcnn_vitdet_b_100e.py
"""

from .common.recipe import EPOCHS_100, STEPS_100, amp_training, schedule
from .common.vitdet import mae_weights, vitdet_adamw, vitdet_data, vitdet_model

model = vitdet_model(
    dict(
        type="ViT",
        img_size=1024,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        window_size=14,
        global_block_indices=[2, 5, 8, 11],
    )
)
dataloader = vitdet_data()
optimizer = vitdet_adamw(decay=0.7, depth=12)
lr_multiplier = schedule(EPOCHS_100, STEPS_100)
train = amp_training(EPOCHS_100, mae_weights("mae_pretrain_vit_base"))
