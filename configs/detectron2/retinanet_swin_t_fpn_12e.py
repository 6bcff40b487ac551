"""RetinaNet, Swin-T, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with Swin and its recipe; no result has been published for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_swin_t_fpn_12e.py
"""

from detectron2 import model_zoo

from .common.neck import RETINANET
from .common.swin import adamw, use_swin

_base = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
model, dataloader, lr_multiplier, train = _base.model, _base.dataloader, _base.lr_multiplier, _base.train
use_swin(model, train, "swin_tiny_patch4_window7_224", RETINANET, out_indices=(1, 2, 3), drop_path_rate=0.2)
dataloader.train.mapper.image_format = "RGB"
optimizer = adamw(lr=1e-4)
train.output_dir = "work_dirs/retinanet_swin_t_fpn_12e_detectron2"
