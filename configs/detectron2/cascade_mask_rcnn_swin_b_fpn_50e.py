"""Cascade Mask R-CNN, Swin-B from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (64 images a batch).

Detectron2's own Cascade R-CNN with the heads and the recipe of its ViTDet project, which publishes box AP 53.9, mask AP
46.2 for ``cascade_mask_rcnn_swin_b_in21k_50ep``.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/cascade_mask_rcnn_swin_b_fpn_50e.py
"""

from .common.cascade import use_cascade
from .common.recipe import EPOCHS_100, STEPS_100, amp_training, schedule
from .common.swin import swin_adamw, swin_weights
from .common.vitdet import vitdet_data, vitdet_model

_name = "swin_base_patch4_window7_224"
model = vitdet_model(dict(type="Swin", name=_name, drop_path_rate=0.4), neck="FPN")
use_cascade(model)
dataloader = vitdet_data()
optimizer = swin_adamw(lr=4e-5)
train = amp_training(EPOCHS_100 // 2, swin_weights(f"{_name}_22k"))
lr_multiplier = schedule(train.max_iter, [step // 2 for step in STEPS_100])
