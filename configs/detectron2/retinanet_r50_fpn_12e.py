"""RetinaNet, ResNet-50, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with our neck: box AP 37.4, published by Detectron2.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_r50_fpn_12e.py
"""

from .common.neck import use_fpn
from .common.stock import stock_parts

dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-Detection/retinanet_R_50_FPN_1x.py")
use_fpn(model)
