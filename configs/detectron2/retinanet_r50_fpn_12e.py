"""RetinaNet, ResNet-50, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with our neck: box AP 37.4, published by Detectron2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_r50_fpn_12e.py
"""

from detectron2 import model_zoo

from .common.neck import RETINANET, use_fpn

_base = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
model, dataloader, optimizer = _base.model, _base.dataloader, _base.optimizer
lr_multiplier, train = _base.lr_multiplier, _base.train
use_fpn(model, RETINANET)
train.output_dir = "work_dirs/retinanet_r50_fpn_12e_detectron2"
