"""Mask R-CNN, ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

The settings of Detectron2's ``projects/ViTDet``, so expect its published result: box AP 51.6, mask AP 45.9. Padding and
eps differ from mmdet's own project, which pads with gray before normalization and uses an eps of 1e-5 (published: 51.6,
45.7). MAE's weights first:

    curl -o data/weights/mae_pretrain_vit_base.pth --create-dirs \\
        https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth
    python tools/train.py configs/mmdet/mask_rcnn_vitdet_b_100e.py
"""

_base_ = ["_base_/mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_b.py"]
model = dict(backbone=dict(backbone={{_base_.vit}}))
