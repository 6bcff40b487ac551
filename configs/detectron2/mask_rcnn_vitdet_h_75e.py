"""Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (138281 iterations of 64 images).

``mask_rcnn_vitdet_b_100e`` with ViT-H: box AP 56.7, mask AP 50.2, published by Detectron2, whose checkpoint (329145471)
loads as it is. As in its config, position embeddings and norms are decayed like the rest.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/mask_rcnn_vitdet_h_75e.py
"""

from .common.recipe import EPOCHS_100, STEPS_100, schedule
from .common.vitdet import decay_all, mae_weights, vitdet_adamw
from .mask_rcnn_vitdet_b_100e import dataloader, model, train

model.backbone.bottom_up.update(
    embed_dim=1280, depth=32, num_heads=16, drop_path_rate=0.5, global_block_indices=[7, 15, 23, 31]
)
optimizer = decay_all(vitdet_adamw(decay=0.9, depth=32))
train.max_iter = EPOCHS_100 * 3 // 4
lr_multiplier = schedule(train.max_iter, [step * 3 // 4 for step in STEPS_100])
train.init_checkpoint = mae_weights("mae_pretrain_vit_huge_p14to16")
