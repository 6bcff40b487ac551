"""Mask R-CNN, ViT-Adapter-S, FPN, 36 epochs of COCO at several scales (270000 iterations of 16 images).

``mask_rcnn_swin_t_fpn_36e`` with the published network, crops and decay (arXiv:2205.08534, in mmdet: box AP 48.2, mask
AP 42.8). Detectron2 publishes no result.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_vit_adapter_s_fpn_36e.py
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .common.data import multi_scale_data
from .common.recipe import adamw
from .common.stock import use_rgb
from .mask_rcnn_swin_t_fpn_36e import lr_multiplier, model, train

dataloader = multi_scale_data()
dataloader.train.total_batch_size = 16
dataloader.train.mapper.augmentations.append(L(T.RandomCrop)(crop_type="absolute", crop_size=(1024, 1024)))
model.backbone.bottom_up = dict(
    type="ViTAdapter", vit=dict(embed_dim=384, num_heads=6, drop_path_rate=0.2), norm="SyncBN"
)
use_rgb(model, dataloader)
optimizer = adamw(lr=1e-4, weight_decay=0.05, not_decayed=("level_embed", "pos_embed", "bias"))
train.init_checkpoint = (
    "https://dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth?matching_heuristics=True"
)
