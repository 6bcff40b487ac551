"""Mask R-CNN, DINOv3's ConvNeXt-T, FPN, 36 epochs of COCO at several scales (8 x 2 images, mixed precision).

mmdet's own ``convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py``, ConvNeXt's published recipe
(arXiv:2201.03545, appendix A.3: box AP 46.2, mask AP 41.7 from ImageNet-1k), with the weights of DINOv3, for which no
result has been published. Its 7 groups of layers with a factor of 0.95 each are timm's 18 layers with 0.98 each. timm
fetches the weights, which have DINOv3's own license.

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_convnext_t_fpn_36e.py
"""

_base_ = "mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py"
custom_imports = dict(_delete_=True, imports=[])  # the base imports mmpretrain
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="TimmBackbone",
            name="convnext_tiny.dinov3_lvd1689m",
            pretrained=True,
            drop_path_rate=0.4,
            output_norm="LN",
        ),
        neck=dict(type="FPN", out_channels=256, num_outs=5),
    ),
    neck=None,
)
optim_wrapper = dict(
    constructor="fpn_plugins.ViTLayerDecay",
    paramwise_cfg=dict(_delete_=True, decay_rate=0.98, num_layers=18, flat_decay_mult=0.0),
)
