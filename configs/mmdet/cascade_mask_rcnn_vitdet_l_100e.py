"""Cascade Mask R-CNN, ViT-L, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_l_100e`` with the three box heads of ``cascade_mask_rcnn_vitdet_b_100e``: box AP 57.6, mask AP 50.0,
published by Detectron2.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_vitdet_l_100e.py
"""

_base_ = "cascade_mask_rcnn_vitdet_b_100e.py"
model = dict(
    backbone=dict(
        backbone=dict(
            embed_dim=1024,
            depth=24,
            num_heads=16,
            drop_path_rate=0.4,
            global_block_indices=(5, 11, 17, 23),
            checkpoint="data/weights/mae_pretrain_vit_large.pth",
        )
    )
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8, num_layers=24))
