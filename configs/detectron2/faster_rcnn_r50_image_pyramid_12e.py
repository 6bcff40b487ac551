"""Faster R-CNN on a featurised image pyramid, ResNet-50 C4 at three image sizes, 12 epochs of COCO (90000 iterations
of 16 images).

What FPN replaces (arXiv:1612.03144, figure 1 (a)): the same network on the image at 2, 1 and 1/2 times its size gives
maps of stride 8, 16 and 32, each with a 1x1 and a 3x3 convolution of its own to the heads' 256 channels and no path
between them; a max-pooled P6 follows. Levels, anchors and heads are those of ``faster_rcnn_r50_fpn_p3p5_12e``; the
backbone is the mmdet file's (torchvision's ImageNet weights by way of timm, RGB; stem and first stage frozen) and not
Detectron2's. It computes 2^2 + 1 + 1/2^2 = 5.25 times what it does on the image alone. No result has been published
for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_image_pyramid_12e.py
"""

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
model.input_format = "RGB"
model.pixel_mean = [123.675, 116.28, 103.53]
model.pixel_std = [58.395, 57.12, 57.375]
dataloader.train.mapper.image_format = "RGB"
train.init_checkpoint = ""
train.output_dir = "work_dirs/faster_rcnn_r50_image_pyramid_12e_detectron2"
