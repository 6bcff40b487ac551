"""Faster R-CNN, ResNet-50, FPN and balanced feature pyramid, 12 epochs of COCO (90000 iterations of 16 images).

Detectron2's Faster R-CNN with the necks of Libra R-CNN (arXiv:1904.02701, section 3.2). The paper's IoU-balanced
sampling and balanced L1 loss are mmdet's and not in Detectron2, so that this is the pyramid alone, and the mmdet file
all of Libra R-CNN. No result has been published for it.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_libra_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck = [model.backbone.neck, dict(type="BFP", refine_index=2, refine="non_local")]
train.output_dir = "work_dirs/faster_rcnn_r50_libra_12e_detectron2"
