"""Cascade Mask R-CNN, Swin-B of ImageNet-21k, FPN, 50 epochs of COCO with large scale jitter (64 images a batch).

Detectron2's own Cascade R-CNN with the heads and the recipe of its ViTDet project, which publishes box AP 53.9, mask AP
46.2 for ``cascade_mask_rcnn_swin_b_in21k_50ep``.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_swin_b_fpn_50e.py
"""

from detectron2 import model_zoo

from .common.cascade import use_cascade
from .common.neck import TWO_STAGE
from .common.swin import adamw, use_swin
from .common.vitdet import EPOCHS_100, IMAGE_SIZE, lsj_data, schedule, training

_name = "swin_base_patch4_window7_224"
model = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
train = training(EPOCHS_100 // 2, "")
use_swin(model, train, _name, TWO_STAGE, release=f"{_name}_22k", norm="LN", drop_path_rate=0.4)
model.backbone.square_pad = IMAGE_SIZE
use_cascade(model)
dataloader = lsj_data()
optimizer = adamw(lr=4e-5)
lr_multiplier = schedule(train.max_iter, [163889 // 2, 177546 // 2])
train.output_dir = "work_dirs/cascade_mask_rcnn_swin_b_fpn_50e_detectron2"
