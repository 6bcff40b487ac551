"""RetinaNet, EfficientNet-B3 from timm, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with another backbone; no result has been published for it (mmdet's config of
the same network, with separable heads and larger images, publishes box AP 40.5).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_efficientnet_b3_fpn_12e.py
"""

from detectron2 import model_zoo

from .common.neck import RETINANET
from .common.timm import use_timm

_base = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.py")
model, dataloader, optimizer = _base.model, _base.dataloader, _base.optimizer
lr_multiplier, train = _base.lr_multiplier, _base.train
use_timm(
    model,
    RETINANET,
    name="tf_efficientnet_b3.aa_in1k",
    out_indices=[2, 3, 4],
    pretrained=True,
    frozen_stages=0,
    drop_path_rate=0.2,
    norm_eval=True,
)
dataloader.train.mapper.image_format = "RGB"
optimizer.lr = 0.01
train.init_checkpoint = ""  # timm fetches the backbone's weights
train.output_dir = "work_dirs/retinanet_efficientnet_b3_fpn_12e_detectron2"
