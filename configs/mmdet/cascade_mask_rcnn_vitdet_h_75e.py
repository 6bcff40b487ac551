"""Cascade Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_h_75e`` with the three box heads of ``cascade_mask_rcnn_vitdet_b_100e``: box AP 58.7, mask AP 51.0,
published by Detectron2.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_vitdet_h_75e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_h.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
