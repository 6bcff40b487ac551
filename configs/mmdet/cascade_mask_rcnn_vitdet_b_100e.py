"""Cascade Mask R-CNN, ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with three box heads: box AP 54.0, mask AP 46.7, published by Detectron2. mmdet weights the
losses of the stages by 1, 0.5 and 0.25, and trains one mask head per stage, whose masks it averages; Detectron2 weights
them equally, scales their gradients to a third, and has one mask head.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_vitdet_b_100e.py
"""

_base_ = ["_base_/cascade_mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_b.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
