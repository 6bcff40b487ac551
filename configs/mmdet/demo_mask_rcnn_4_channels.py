"""The demo's Mask R-CNN on images of four channels and 12 bits: red, green, blue and infrared.

    python tools/make_synthetic_coco.py data/synthetic_infrared --infrared
    FPN_PLUGINS_COCO=data/synthetic_infrared python tools/train.py configs/mmdet/demo_mask_rcnn_4_channels.py

The first convolution of the ImageNet weights is adapted to four channels; ``tools/demo.py --prepare-only`` writes
these weights. The Detectron2 file of the same stem has the same network.
"""

_base_ = "demo_mask_rcnn.py"

reader = dict(type="fpn_plugins.LoadImage", in_chans=4, max_value=4095)

model = dict(
    data_preprocessor=dict(
        type="fpn_plugins.DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53, 56.122],  # ImageNet's, and the infrared's by `fpn-plugins pixels`
        std=[58.395, 57.12, 57.375, 37.43],
        bgr_to_rgb=False,
    ),
    backbone=dict(backbone=dict(in_chans=4, frozen_stages=-1)),
)
train_pipeline = [reader, *_base_.train_pipeline[1:]]
test_pipeline = [reader, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
