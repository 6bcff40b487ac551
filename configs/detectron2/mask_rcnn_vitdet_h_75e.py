"""Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (138281 iterations of 64 images).

``mask_rcnn_vitdet_b_100e`` with ViT-H: box AP 56.7, mask AP 50.2, published by Detectron2, whose checkpoint (329145471)
loads as it is. As in its config, position embeddings and norms are decayed like the rest.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/mask_rcnn_vitdet_h_75e.py
"""

from .common.vitdet import EPOCHS_100, adamw, schedule, training
from .mask_rcnn_vitdet_b_100e import dataloader, model

_max_iter = EPOCHS_100 * 3 // 4

model.backbone.bottom_up.update(
    embed_dim=1280, depth=32, num_heads=16, drop_path_rate=0.5, global_block_indices=[7, 15, 23, 31]
)
optimizer = adamw(decay=0.9, depth=32)
optimizer.params.overrides = {}
optimizer.params.weight_decay_norm = None
lr_multiplier = schedule(_max_iter, milestones=[163889 * 3 // 4, 177546 * 3 // 4])
train = training(_max_iter, "mae_pretrain_vit_huge_p14to16.pth")
train.output_dir = "work_dirs/mask_rcnn_vitdet_h_75e_detectron2"
