"""RetinaNet, Swin-T, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with Swin and its optimizer; no result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_swin_t_fpn_12e.py
"""

from .common.neck import use_fpn
from .common.stock import stock_parts, use_rgb
from .common.swin import swin_adamw, swin_weights

_name = "swin_tiny_patch4_window7_224"
dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-Detection/retinanet_R_50_FPN_1x.py")
use_fpn(model, bottom_up=dict(type="Swin", name=_name, out_indices=(1, 2, 3), drop_path_rate=0.2))
use_rgb(model, dataloader)
optimizer = swin_adamw(lr=1e-4)
train.init_checkpoint = swin_weights(_name)
