"""Mask R-CNN, Swin-T, FPN, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``mask_rcnn_R_50_FPN_1x`` with Swin and its optimizer. Detectron2 publishes no result; mmdet publishes
box AP 42.7, mask AP 39.3 for its config of the same network.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_swin_t_fpn_12e.py
"""

from .common.neck import use_fpn
from .common.stock import stock_parts, use_rgb
from .common.swin import swin_adamw, swin_weights

_name = "swin_tiny_patch4_window7_224"
dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
use_fpn(model, bottom_up=dict(type="Swin", name=_name, drop_path_rate=0.2))
use_rgb(model, dataloader)
optimizer = swin_adamw(lr=1e-4)
train.init_checkpoint = swin_weights(_name)
