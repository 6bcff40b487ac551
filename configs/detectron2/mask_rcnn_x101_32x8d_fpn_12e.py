"""Mask R-CNN, ResNeXt-101 32x8d, FPN, 12 epochs of COCO (90000 iterations of 16 images).

``mask_rcnn_r50_fpn_12e`` with another network, which Detectron2 publishes for 37 epochs only (box AP 44.3, mask AP
39.5).

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/mask_rcnn_x101_32x8d_fpn_12e.py
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock

from .mask_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=blocks,
        stride_per_block=[1 if stage == 0 else 2] + [1] * (blocks - 1),
        in_channels=64 if stage == 0 else 128 * 2**stage,
        out_channels=256 * 2**stage,
        bottleneck_channels=32 * 8 * 2**stage,  # groups x width
        num_groups=32,
        stride_in_1x1=False,
        norm="FrozenBN",
    )
    for stage, blocks in enumerate((3, 4, 23, 3))
]
# unlike MSRA's, these weights do not have the standard deviations folded into their first convolution
model.pixel_std = [57.375, 57.120, 58.395]
train.init_checkpoint = "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
