"""RetinaNet, ResNet-50, BiFPN P3-P7 of three repeats, 12 epochs of COCO (90000 iterations of 16 images).

``retinanet_r50_fpn_12e`` with another neck; no result has been published (EfficientDet trains its BiFPN with other
backbones, for 300 epochs).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_r50_bifpn_12e.py
"""

from .retinanet_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck = dict(type="BiFPN", out_channels=256, num_extra_levels=2, num_repeats=3)
