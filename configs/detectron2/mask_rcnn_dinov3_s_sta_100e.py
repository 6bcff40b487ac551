"""Mask R-CNN, DINOv3's ViT-S with the Spatial Tuning Adapter, FPN P3-P6, 100 epochs of COCO (184375 iterations of 64).

The backbone of DEIMv2-L (arXiv:2509.20787) with the data and schedule of ``mask_rcnn_vitdet_b_100e``, and anchors from
64 px. No result has been published. timm fetches the weights, which have DINOv3's own license.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_dinov3_s_sta_100e.py
"""

from .common.vitdet import vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, optimizer, train

model = vitdet_model(
    dict(
        type="SpatialTuningAdapter",
        vit=dict(
            type="ViT",
            name="vit_small_patch16_dinov3.lvd1689m",
            out_block_indices=[5, 8, 11],
            pretrained=True,
            drop_path_rate=0.1,
        ),
        detail_channels=32,
        norm="SyncBN",
    ),
    neck="FPN",
)
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.strides = [8, 16, 32, 64]
model.proposal_generator.anchor_generator.sizes = [[64], [128], [256], [512]]
model.roi_heads.box_in_features = model.roi_heads.mask_in_features = ["p3", "p4", "p5"]
model.roi_heads.box_pooler.scales = model.roi_heads.mask_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
train.init_checkpoint = ""
