"""Mask R-CNN, ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 iterations of 64 images).

Detectron2's ``projects/ViTDet`` with our ViT and pyramid: box AP 51.6, mask AP 45.9, published by Detectron2, whose
checkpoint (325346929) loads as it is.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/mask_rcnn_vitdet_b_100e.py
"""

from .common.vitdet import EPOCHS_100, adamw, lsj_data, schedule, training, vitdet_model

model = vitdet_model()
dataloader = lsj_data()
optimizer = adamw(decay=0.7, depth=12)
lr_multiplier = schedule(EPOCHS_100, milestones=[163889, 177546])
train = training(EPOCHS_100, "mae_pretrain_vit_base.pth")
train.output_dir = "work_dirs/mask_rcnn_vitdet_b_100e_detectron2"
