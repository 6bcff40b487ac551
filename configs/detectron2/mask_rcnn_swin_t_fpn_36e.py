"""Mask R-CNN, Swin-T, FPN, 36 epochs of COCO (270000 iterations of 16 images).

Detectron2's own data, which scale images to 640..800 pixels, and its schedule of three times the length; mmdet's config
of the same network, which also crops, publishes box AP 46.0, mask AP 41.6.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_t_fpn_36e.py
"""

from detectron2 import model_zoo

from .mask_rcnn_swin_t_fpn_12e import dataloader, model, optimizer, train

lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_3x
train.max_iter = 270000
train.output_dir = "work_dirs/mask_rcnn_swin_t_fpn_36e_detectron2"
