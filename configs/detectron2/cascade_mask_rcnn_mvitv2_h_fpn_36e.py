"""Cascade Mask R-CNN, MViTv2-H of ImageNet-21k, FPN, 36 epochs of COCO with large-scale jitter (64 images a batch).

The settings of Detectron2's ``projects/MViTv2``, whose ``cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x`` has published box AP
56.1, mask AP 48.5.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_mvitv2_h_fpn_36e.py
"""

from .common.mvit import EPOCHS_36, adamw, cascade_mask_rcnn, lsj_data, training
from .common.vitdet import schedule

model = cascade_mask_rcnn("mvitv2_huge_cls", drop_path_rate=0.6)
model.backbone.bottom_up.gradient_checkpointing = True
dataloader = lsj_data()
optimizer = adamw()
lr_multiplier = schedule(EPOCHS_36, [52500, 62500])
train = training("MViTv2_H_in21k")
train.output_dir = "work_dirs/cascade_mask_rcnn_mvitv2_h_fpn_36e_detectron2"
