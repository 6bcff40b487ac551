"""Cascade Mask R-CNN, EVA-02 L, simple pyramid, 73 epochs of COCO with large-scale jitter (60000 x 144 images).

The published recipe of ``eva02_L_coco_bsl``, box AP 59.2, mask AP 50.8 (baaivision/EVA, ``EVA-02/det``):
``cascade_mask_rcnn_eva02_b_vitdet_65e`` with EVA-02 L, its rates and drop path, and 144 images in an iteration.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/cascade_mask_rcnn_eva02_l_vitdet_73e.py
"""

from .cascade_mask_rcnn_eva02_b_vitdet_65e import dataloader, lr_multiplier, model, train
from .common.vitdet import decay_all, vitdet_adamw

model.backbone.bottom_up.update(name="eva02_large_patch14_224.mim_m38m", drop_path_rate=0.4)
dataloader.train.total_batch_size = 144
optimizer = decay_all(vitdet_adamw(decay=0.8, depth=24, lr=6e-5))
