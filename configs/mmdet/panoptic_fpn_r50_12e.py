"""Panoptic FPN, ResNet-50, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck and semantic head: same data, schedule and pre-trained backbone. Expect the published
result of ``panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py``: PQ 40.2, published by mmdet.

    python tools/train.py configs/mmdet/panoptic_fpn_r50_12e.py
"""

_base_ = "mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"), semantic_head=dict(type="fpn_plugins.PanopticFPNHead"))
