"""Mask R-CNN, ViT-B tapped at four depths, FPN, 100 epochs of COCO with large-scale jitter (184375 iterations of 64).

``mask_rcnn_vitdet_b_100e`` with an FPN on the maps of blocks 3, 6, 9 and 12 in place of the simple pyramid: what ViTDet
compares itself with (arXiv:2203.16527, figure 2 and table 1). Nobody has published weights for it.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_vit_b_multidepth_fpn_100e.py
"""

from .common.vitdet import pyramid_backbone
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, model, optimizer, train

model.backbone = pyramid_backbone(
    {"type": "MultiDepthViT", "vit": {"drop_path_rate": 0.1}, "depths": [3, 6, 9, 12]},
    {"type": "FPN", "out_channels": 256, "norm": "LN", "extra_levels": {"num_levels": 1}},
)
train.output_dir = "work_dirs/mask_rcnn_vit_b_multidepth_fpn_100e_detectron2"
