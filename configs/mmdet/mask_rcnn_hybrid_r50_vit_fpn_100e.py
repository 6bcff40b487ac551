"""Mask R-CNN, C2-C4 from ResNet-50 and C5 from ViT-B, FPN, 100 epochs of COCO with large-scale jitter (16 x 4 images).

``mask_rcnn_vitdet_b_100e`` with timm's hybrid ``vit_base_r50_s16_384``, pre-trained on ImageNet-21k. Its ResNetV2
counts as the layer below the first block; rates fall by 0.9 per layer, so that it learns at a quarter of the rate. No
result has been published. The weights first:

    python -c "import timm; from fpn_plugins.weights import write_checkpoint as write; \\
        model = timm.create_model('vit_base_r50_s16_384', pretrained=True); \\
        write(model.state_dict(), 'data/weights/r50_vit_b.safetensors')"
    python tools/train.py configs/mmdet/mask_rcnn_hybrid_r50_vit_fpn_100e.py
"""

_base_ = "mask_rcnn_vitdet_b_100e.py"
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type="TimmHybrid",
            name="vit_base_r50_s16_384",
            drop_path_rate=0.1,
            checkpoint="data/weights/r50_vit_b.safetensors",
        ),
        neck=dict(type="FPN"),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9))
