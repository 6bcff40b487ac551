"""Mask R-CNN, ViT-B tapped at four depths, FPN, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with an FPN on the maps of blocks 3, 6, 9 and 12 instead of the simple pyramid: a baseline
of ViTDet (arXiv:2203.16527, figure 2 and table 1). No weights have been published.

    python tools/train.py configs/mmdet/mask_rcnn_vit_b_multidepth_fpn_100e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type="MultiDepthViT",
            vit=dict(drop_path_rate=0.1, checkpoint="data/weights/mae_pretrain_vit_base.pth"),
            depths=(3, 6, 9, 12),
        ),
        neck=dict(type="FPN"),
    )
)
