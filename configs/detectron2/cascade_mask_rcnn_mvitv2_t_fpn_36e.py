"""Cascade Mask R-CNN, MViTv2-T, FPN, 36 epochs of COCO at several scales (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, whose ``cascade_mask_rcnn_mvitv2_t_3x`` has published box AP 52.2,
mask AP 45.0.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_t_fpn_36e.py
"""

from .common.mvit import EPOCHS_36, adamw, cascade_mask_rcnn, multi_scale_data, training
from .common.vitdet import schedule

model = cascade_mask_rcnn("mvitv2_tiny", drop_path_rate=0.2)
dataloader = multi_scale_data()
optimizer = adamw()
lr_multiplier = schedule(EPOCHS_36, [52500, 62500])
train = training("MViTv2_T_in1k")
train.output_dir = "work_dirs/cascade_mask_rcnn_mvitv2_t_fpn_36e_detectron2"
