"""Panoptic FPN with a timm MobileNetV2, our FPN and our semantic head on the synthetic set, for two CPU cores.

    python tools/demo.py --prepare-only          # prepares the weights
    python tools/make_synthetic_coco.py data/synthetic_panoptic --panoptic
    CONFIG=configs/detectron2/demo_panoptic_fpn.py
    FPN_PLUGINS_COCO=data/synthetic_panoptic python tools/train_net.py --config-file $CONFIG

``demo_mask_rcnn`` with a semantic head. The mmdet file of the same stem has the same network, data, and schedule.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import PanopticFPN

from fpn_plugins.adapters.detectron2 import PanopticFPNHead

from .common.panoptic_folder import dataloader, num_stuff
from .demo_mask_rcnn import dataloader as _instances
from .demo_mask_rcnn import lr_multiplier, model, optimizer, train

_channels = model.backbone.neck.out_channels

model._target_ = PanopticFPN
model.sem_seg_head = L(PanopticFPNHead)(
    input_shape={f"p{level}": L(ShapeSpec)(channels=_channels, stride=2**level) for level in (2, 3, 4, 5)},
    num_classes=num_stuff + 1,
    conv_dims=_channels,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
    ignore_value=255,
)
model.combine_overlap_thresh = 0.5
model.combine_stuff_area_thresh = 256  # px; the default of 4096 is for COCO's images, which are four times as large
model.combine_instances_score_thresh = 0.5

for _part in ("train", "test"):
    dataloader[_part].mapper.augmentations = _instances[_part].mapper.augmentations
    dataloader[_part].num_workers = _instances[_part].num_workers
dataloader.train.mapper.image_format = "RGB"
dataloader.train.total_batch_size = _instances.train.total_batch_size
dataloader.train.aspect_ratio_grouping = False
