"""Cascade Mask R-CNN, Swin-L from ImageNet-21k, FPN, 50 epochs of COCO with large-scale jitter (32 x 2 images).

``cascade_mask_rcnn_swin_b_fpn_50e`` with the larger network, for which Detectron2's ViTDet project publishes box AP
55.0, mask AP 47.2 with its own heads.

    python tools/train.py configs/mmdet/cascade_mask_rcnn_swin_l_fpn_50e.py
"""

_base_ = "cascade_mask_rcnn_swin_b_fpn_50e.py"
weights = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window7_224_22k.pth"
model = dict(
    backbone=dict(name="swin_large_patch4_window7_224", init_cfg=dict(checkpoint=weights)),
    neck=dict(in_channels=[192, 384, 768, 1536]),
)
