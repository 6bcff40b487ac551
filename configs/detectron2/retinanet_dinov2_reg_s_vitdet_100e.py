"""RetinaNet, DINOv2's ViT-S with registers, simple pyramid P3-P7, 100 epochs of COCO with large-scale jitter (x 64).

``retinanet_vitdet_b_100e`` with a smaller network, whose filters are resized from patches of 14 pixels to 16. DINOv2
(arXiv:2304.07193) has published no detector. timm fetches the weights.

    python tools/train_net.py --num-gpus 8 --num-machines 8 \\
        --config-file configs/detectron2/retinanet_dinov2_reg_s_vitdet_100e.py
"""

from .retinanet_vitdet_b_100e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = dict(
    type="ViT",
    name="vit_small_patch14_reg4_dinov2.lvd142m",
    patch_size=16,
    pretrained=True,
    drop_path_rate=0.1,
    window_size=16,
)
train.init_checkpoint = ""
