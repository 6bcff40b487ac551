"""Mask R-CNN, DINOv3's ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (16 x 4 images).

No result and no recipe of a Mask R-CNN on DINOv3 has been published (arXiv:2508.10104, section 6.3, trains a DETR on
the frozen network), so data, schedule, rates and drop path are ViTDet's for ViT-B (arXiv:2203.16527, appendix). Windows
of 16 tokens divide 1024 pixels; class token and registers see, and are seen by, all windows. timm fetches the weights,
which have DINOv3's own license.

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_b_vitdet_100e.py
"""

_base_ = ["_base_/mask_rcnn_vitdet.py", "_base_/vitdet_lsj.py", "_base_/vitdet_100e.py"]
model = dict(
    backbone=dict(
        backbone=dict(
            type="ViT", name="vit_base_patch16_dinov3.lvd1689m", pretrained=True, drop_path_rate=0.1, window_size=16
        )
    )
)
