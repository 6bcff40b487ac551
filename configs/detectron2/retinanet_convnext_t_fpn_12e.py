"""RetinaNet, ConvNeXt-T from timm, FPN P3-P7, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's own ``retinanet_R_50_FPN_1x`` with another backbone and AdamW; no result has been published. The backbone's
maps are normalized, as in ConvNeXt's detectors (arXiv:2201.03545, appendix A.3).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/retinanet_convnext_t_fpn_12e.py
"""

from .common.neck import use_fpn
from .common.recipe import adamw
from .common.stock import stock_parts, use_rgb

dataloader, lr_multiplier, model, optimizer, train = stock_parts("COCO-Detection/retinanet_R_50_FPN_1x.py")
use_fpn(
    model,
    bottom_up=dict(
        type="TimmBackbone",
        name="convnext_tiny.fb_in1k",
        out_indices=[1, 2, 3],
        pretrained=True,
        drop_path_rate=0.4,
        output_norm="LN",
    ),
)
use_rgb(model, dataloader)
optimizer = adamw(weight_decay=0.05)
train.init_checkpoint = ""  # timm fetches the backbone's weights
