"""Mask R-CNN, Swin-T, FPN, 36 epochs of COCO (270000 iterations of 16 images).

``mask_rcnn_swin_t_fpn_12e`` with Detectron2's 3x schedule and its data at 640 to 800 pixels. mmdet publishes box AP
46.0, mask AP 41.6 for its config of the same network, which also crops images.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_t_fpn_36e.py
"""

from detectron2 import model_zoo

from .mask_rcnn_swin_t_fpn_12e import dataloader, model, optimizer, train

lr_multiplier = model_zoo.get_config("common/coco_schedule.py").lr_multiplier_3x
train.max_iter = 270000
