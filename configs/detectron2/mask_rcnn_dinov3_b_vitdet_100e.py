"""Mask R-CNN, DINOv3's ViT-B, simple pyramid, 100 epochs of COCO with large-scale jitter (184375 x 64 images).

No result and no recipe of a Mask R-CNN on DINOv3 has been published (arXiv:2508.10104, section 6.3, trains a DETR on
the frozen network), so data, schedule, rates and drop path are ViTDet's for ViT-B (arXiv:2203.16527, appendix). Windows
of 16 tokens divide 1024 pixels; class token and registers see, and are seen by, all windows. timm fetches the weights,
which have DINOv3's own license.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/mask_rcnn_dinov3_b_vitdet_100e.py
"""

from .common.vitdet import vitdet_model
from .mask_rcnn_vitdet_b_100e import dataloader, lr_multiplier, optimizer, train

model = vitdet_model(
    dict(type="ViT", name="vit_base_patch16_dinov3.lvd1689m", pretrained=True, drop_path_rate=0.1, window_size=16)
)
train.init_checkpoint = ""
