"""Cascade Mask R-CNN, MViTv2-L of ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, whose ``cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep`` has published box
AP 55.8, mask AP 48.3.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_l_fpn_50e.py
"""

from .common.mvit import adamw, cascade_mask_rcnn, lsj_data, training
from .common.vitdet import EPOCHS_100, schedule

model = cascade_mask_rcnn("mvitv2_large_cls", drop_path_rate=0.5)
dataloader = lsj_data()
optimizer = adamw()
optimizer.lr = 1e-4
train = training("MViTv2_L_in21k", EPOCHS_100 // 2)
lr_multiplier = schedule(train.max_iter, [163889 // 2, 177546 // 2])
train.output_dir = "work_dirs/cascade_mask_rcnn_mvitv2_l_fpn_50e_detectron2"
