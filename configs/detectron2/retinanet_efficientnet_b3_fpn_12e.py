"""RetinaNet, EfficientNet-B3 from timm, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with another backbone; no result has been published (mmdet's config of the
same network, with separable heads and larger images, publishes box AP 40.5).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_efficientnet_b3_fpn_12e.py
"""

from .common.neck import use_fpn
from .common.stock import stock_parts, use_rgb

dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-Detection/retinanet_R_50_FPN_1x.py")
use_fpn(
    model,
    bottom_up=dict(
        type="TimmBackbone",
        name="tf_efficientnet_b3.aa_in1k",
        out_indices=[2, 3, 4],
        pretrained=True,
        frozen_stages=1,
        drop_path_rate=0.2,
        norm_eval=True,
    ),
)
use_rgb(model, dataloader)
optimizer.lr = 0.01
train.init_checkpoint = ""  # timm fetches the backbone's weights
