"""Mask R-CNN, ViT-B tapped at four depths, LW-DETR's projector, 100 epochs of COCO with large-scale jitter (16 x 4).

``mask_rcnn_vitdet_b_100e`` with a CSP layer per level on the maps of blocks 3, 6, 9 and 12 (arXiv:2406.03459) instead
of the simple pyramid. No result has been published.

    python tools/train.py configs/mmdet/mask_rcnn_vit_b_projector_100e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"
model = dict(
    backbone=dict(
        backbone=dict(out_block_indices=(2, 5, 8, 11)),
        neck=dict(type="MultiScaleProjector", scale_factors=(4.0, 2.0, 1.0, 0.5)),
    )
)
