"""Faster R-CNN, ResNet-50, FPN of 128 channels, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's Faster R-CNN but for the 128 channels of pyramid and heads. No result has been published for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_fpn128_12e.py
"""

from detectron2.layers import ShapeSpec

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck.out_channels = 128
model.proposal_generator.head.in_channels = 128
model.roi_heads.box_head.input_shape = ShapeSpec(channels=128, height=7, width=7)
train.output_dir = "work_dirs/faster_rcnn_r50_fpn128_12e_detectron2"
