"""Cascade Mask R-CNN, ViT-L, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_l_100e`` with the three box heads of ``cascade_mask_rcnn_vitdet_b_100e``: box AP 57.6, mask AP 50.0,
published by Detectron2.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_vitdet_l_100e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_l.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
