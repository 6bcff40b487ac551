"""Cascade Mask R-CNN, MViTv2-B, FPN, 36 epochs of COCO at several scales (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, whose ``cascade_mask_rcnn_mvitv2_b_3x`` has published box AP 54.1,
mask AP 46.7.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_b_fpn_36e.py
"""

from .common.mvit import EPOCHS_36, adamw, cascade_mask_rcnn, multi_scale_data, training
from .common.vitdet import schedule

model = cascade_mask_rcnn("mvitv2_base", drop_path_rate=0.4)
dataloader = multi_scale_data()
optimizer = adamw()
lr_multiplier = schedule(EPOCHS_36, [52500, 62500])
train = training("MViTv2_B_in1k")
train.output_dir = "work_dirs/cascade_mask_rcnn_mvitv2_b_fpn_36e_detectron2"
