"""Mask R-CNN, ViT-B tapped at four depths, FPN, 100 epochs of COCO with large-scale jitter (184375 x 64 images).

``mask_rcnn_vitdet_b_100e`` with an FPN on the maps of blocks 3, 6, 9 and 12 instead of the simple pyramid: a baseline
of ViTDet (arXiv:2203.16527, figure 2 and table 1). No weights have been published.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_vit_b_multidepth_fpn_100e.py
"""

from .common.vitdet import vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, optimizer, train

model = vitdet_model(dict(type="MultiDepthViT", vit=dict(drop_path_rate=0.1), depths=[3, 6, 9, 12]), neck="FPN")
