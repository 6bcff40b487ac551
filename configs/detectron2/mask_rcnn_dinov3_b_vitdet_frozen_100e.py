"""Mask R-CNN on DINOv3's frozen ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (x 64).

``mask_rcnn_dinov3_b_vitdet_100e``, of which only pyramid and heads train. Every block is global, because a network that
does not train cannot adapt to windows. No result has been published with these heads; DINOv3's own detector on the
frozen 7B network is a DETR with box AP 66.1 (arXiv:2508.10104, table 10).

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_dinov3_b_vitdet_frozen_100e.py
"""

from .mask_rcnn_dinov3_b_vitdet_100e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(drop_path_rate=0.0, window_size=0, frozen_stages=12)
