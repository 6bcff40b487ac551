"""Faster R-CNN, featurized image pyramid of ResNet-50's C4, 12 epochs of COCO (8 x 2 images).

The baseline that FPN replaces (arXiv:1612.03144, figure 1 (a)): the same network on the image at 2, 1 and 1/2 times its
size gives maps of stride 8, 16 and 32. Each has a 1x1 and a 3x3 convolution of its own to the heads' 256 channels, with
no path between them; a max-pooled P6 follows. Levels, anchors and heads are those of ``faster_rcnn_r50_fpn_p3p5_12e``.
The backbone (torchvision's ImageNet weights, through timm; stem and first stage frozen) costs 2^2 + 1 + 1/2^2 = 5.25
times as much as on the image alone. No result has been published.

    python tools/train.py configs/mmdet/faster_rcnn_r50_image_pyramid_12e.py
"""

_base_ = "faster_rcnn_r50_fpn_p3p5_12e.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
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
        ),
        neck=dict(type="SSDPyramid", out_channels=256, num_outs=4),
    ),
    neck=None,
)
