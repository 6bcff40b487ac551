"""Mask R-CNN, MViTv2-T, FPN, 36 epochs of COCO at several scales (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, which publishes box AP 48.3, mask AP 43.8 for
``mask_rcnn_mvitv2_t_3x``.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_mvitv2_t_fpn_36e.py
"""

from .common.mvit import EPOCHS_36, adamw, mask_rcnn, multi_scale_data, training
from .common.vitdet import schedule

model = mask_rcnn("mvitv2_tiny", drop_path_rate=0.2)
dataloader = multi_scale_data()
optimizer = adamw()
lr_multiplier = schedule(EPOCHS_36, [52500, 62500])
train = training("MViTv2_T_in1k")
train.output_dir = "work_dirs/mask_rcnn_mvitv2_t_fpn_36e_detectron2"
