"""Mask R-CNN, ViT-H, simple pyramid, 75 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with ViT-H: box AP 56.7, mask AP 50.2, published by Detectron2, as are MAE's weights with
their filters resized from patches of 14 pixels to 16:

    curl -o data/weights/mae_pretrain_vit_huge_p14to16.pth --create-dirs \\
        https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MAE/mae_pretrain_vit_huge_p14to16.pth
    python tools/train.py configs/mmdet/mask_rcnn_vitdet_h_75e.py
"""

_base_ = ["_base_/mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_h.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
