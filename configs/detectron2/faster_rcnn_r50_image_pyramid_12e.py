"""Faster R-CNN, featurized image pyramid of ResNet-50's C4, 12 epochs of COCO (90000 iterations of 16 images).

The baseline that FPN replaces (arXiv:1612.03144, figure 1 (a)): the same network on the image at 2, 1 and 1/2 times its
size gives maps of stride 8, 16 and 32. Each has a 1x1 and a 3x3 convolution of its own to the heads' 256 channels, with
no path between them; a max-pooled P6 follows. Levels, anchors and heads are those of ``faster_rcnn_r50_fpn_p3p5_12e``.
The backbone is timm's, as in the mmdet file (torchvision's ImageNet weights, RGB; stem and first stage frozen), and
costs 2^2 + 1 + 1/2^2 = 5.25 times as much as on the image alone. No result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_image_pyramid_12e.py
"""

from .common.stock import use_rgb
from .faster_rcnn_r50_fpn_p3p5_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = dict(
    type="ImagePyramid",
    scales=[2.0, 1.0, 0.5],
    backbone=dict(
        type="TimmBackbone",
        name="resnet50.tv_in1k",
        out_indices=[3],
        pretrained=True,
        frozen_stages=1,
        norm_eval=True,
    ),
)
model.backbone.in_features = None  # the backbone chooses its maps itself
model.backbone.neck = dict(type="SSDPyramid", out_channels=256, extra_levels=dict(num_levels=1, op="max_pool"))
use_rgb(model, dataloader)
train.init_checkpoint = ""  # timm fetches the backbone's weights
