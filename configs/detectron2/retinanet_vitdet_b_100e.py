"""RetinaNet, ViT-B, simple pyramid P3-P7, 100 epochs of COCO with large-scale jitter (184375 iterations of 64 images).

Detectron2's RetinaNet on the backbone and with the schedule of ``mask_rcnn_vitdet_b_100e``; P6 and P7 are convolutions
of P5, with the ReLU between them. No result has been published.

    python tools/train_net.py --num-gpus 8 --num-machines 8 --config-file configs/detectron2/retinanet_vitdet_b_100e.py
"""

from detectron2 import model_zoo

from .common.stock import use_rgb
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, optimizer, train
from .mask_rcnn_vitdet_b_100e import model as _mask_rcnn

model = model_zoo.get_config("common/models/retinanet.py").model
model.backbone = _mask_rcnn.backbone
model.backbone.neck.update(
    scale_factors=[2.0, 1.0, 0.5],
    extra_levels=dict(num_levels=2, op="conv", source="output", relu=True, bare=False),
)
use_rgb(model, dataloader)
