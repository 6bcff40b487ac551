"""Mask R-CNN, DINOv3's ViT-S with the Spatial Tuning Adapter, FPN P3-P6, 100 epochs of COCO (16 x 4 images).

The backbone of DEIMv2-L (arXiv:2509.20787) with the data and schedule of ``mask_rcnn_vitdet_b_100e``, and anchors from
64 px. No result has been published. timm fetches the weights, which have DINOv3's own license.

    python tools/train.py configs/mmdet/mask_rcnn_dinov3_s_sta_100e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type="SpatialTuningAdapter",
            vit=dict(
                type="ViT",
                name="vit_small_patch16_dinov3.lvd1689m",
                out_block_indices=(5, 8, 11),
                pretrained=True,
                drop_path_rate=0.1,
            ),
            detail_channels=32,
            norm="SyncBN",
        ),
        neck=dict(type="FPN", num_outs=4),
    ),
    rpn_head=dict(anchor_generator=dict(strides=[8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32]), mask_roi_extractor=dict(featmap_strides=[8, 16, 32])
    ),
)
