"""Mask R-CNN, DINOv3's ConvNeXt-T, FPN, 36 epochs of COCO (270000 iterations of 16 images, mixed precision).

``mask_rcnn_swin_t_fpn_36e`` with ConvNeXt's published recipe (arXiv:2201.03545, appendix A.3: box AP 46.2, mask AP 41.7
from ImageNet-1k, with crops), and the weights of DINOv3, for which no result has been published. Its 7 groups of layers
with a factor of 0.95 each are timm's 18 layers with 0.98 each. timm fetches the weights, which have DINOv3's own
license.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_dinov3_convnext_t_fpn_36e.py
"""

from detectron2.config import LazyCall as L

from fpn_plugins.adapters.detectron2 import get_layer_decay_params

from .mask_rcnn_swin_t_fpn_36e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = dict(
    type="TimmBackbone",
    name="convnext_tiny.dinov3_lvd1689m",
    pretrained=True,
    drop_path_rate=0.4,
    output_norm="LN",
)
optimizer.params = L(get_layer_decay_params)(
    decay=0.98,
    num_layers=18,
    base_lr="${..lr}",
    weight_decay="${..weight_decay}",
    weight_decay_norm=0.0,
    weight_decay_bias=0.0,
    overrides={"gamma": {"weight_decay": 0.0}},
)
train.amp.enabled = True
train.init_checkpoint = ""
