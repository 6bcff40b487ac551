"""The demo's Mask R-CNN on images of four channels and 12 bits: red, green, blue and infrared.

    python tools/make_synthetic_coco.py data/synthetic_infrared --infrared
    FPN_PLUGINS_COCO=data/synthetic_infrared \\
      python tools/train_net.py --config-file configs/detectron2/demo_mask_rcnn_4_channels.py

The first convolution of the ImageNet weights is adapted to four channels. ``tools/demo.py --prepare-only`` writes these
weights. The mmdet file of the same stem has the same network.
"""

from fpn_plugins.adapters.detectron2 import PixelMapper

from .demo_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

# ImageNet's, and the infrared's by `fpn-plugins pixels`
model.pixel_mean = [123.675, 116.28, 103.53, 56.122]
model.pixel_std = [58.395, 57.12, 57.375, 37.43]
model.backbone.bottom_up.update(in_chans=4, frozen_stages=-1)

for _loader in (dataloader.train, dataloader.test):
    _loader.mapper.update(_target_=PixelMapper, in_chans=4, max_value=4095, image_format="RGB")
