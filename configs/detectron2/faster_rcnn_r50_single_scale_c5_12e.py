"""Faster R-CNN, ResNet-50, one map: C5, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's Faster R-CNN but for the features: C5 alone at stride 32, with anchors of all sizes on it.
The FPN paper (arXiv:1612.03144, table 1 (a) and (b)) has the same comparison for RPN.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_single_scale_c5_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck = dict(type="SingleScale", out_channels=256, in_indices=[3])
model.proposal_generator.in_features = ["p5"]
model.proposal_generator.head.num_anchors = 15
model.proposal_generator.anchor_generator.strides = [32]
model.proposal_generator.anchor_generator.sizes = [[32, 64, 128, 256, 512]]
model.roi_heads.box_in_features = ["p5"]
model.roi_heads.box_pooler.scales = (1 / 32,)
train.output_dir = "work_dirs/faster_rcnn_r50_single_scale_c5_12e_detectron2"
