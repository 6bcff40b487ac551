"""RetinaNet, ResNet-50, NAS-FPN P3-P7 of seven repeats with BN, 12 epochs of COCO (90000 iterations of 16 images).

``retinanet_r50_fpn_12e`` with another neck. Detectron2 has no NAS-FPN; mmdet publishes it with 50 epochs at 640 x 640
only (box AP 40.5).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_r50_nasfpn_12e.py
"""

from .retinanet_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck = dict(type="NASFPN", out_channels=256, num_repeats=7, norm="BN")
