"""Mask R-CNN, ViT-L, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with ViT-L: box AP 55.5, mask AP 49.2, published by Detectron2. MAE's weights first:

    curl -o data/weights/mae_pretrain_vit_large.pth --create-dirs \\
        https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_large.pth
    python tools/train.py configs/mmdet/mask_rcnn_vitdet_l_100e.py
"""

_base_ = ["_base_/mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_l.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
