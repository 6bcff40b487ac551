"""Mask R-CNN, ViT-B tapped at four depths, LW-DETR's projector, 100 epochs of COCO with large-scale jitter (x 64).

``mask_rcnn_vitdet_b_100e`` with a CSP layer per level on the maps of blocks 3, 6, 9 and 12 (arXiv:2406.03459) instead
of the simple pyramid. No result has been published.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_vit_b_projector_100e.py
"""

from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.out_block_indices = [2, 5, 8, 11]
model.backbone.neck.update(type="MultiScaleProjector", scale_factors=[4.0, 2.0, 1.0, 0.5])
