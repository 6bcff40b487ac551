"""Faster R-CNN, ResNet-50, FPN and balanced feature pyramid, 12 epochs of COCO (90000 iterations of 16 images).

``faster_rcnn_r50_fpn_12e`` with the necks of Libra R-CNN (arXiv:1904.02701, section 3.2). Detectron2 has neither its
IoU-balanced sampling nor its balanced L1 loss, so this file trains the pyramid alone; the mmdet file trains all of
Libra R-CNN. No result has been published.

    python tools/train_net.py --num-gpus 8 --config-file configs/detectron2/faster_rcnn_r50_libra_12e.py
"""

from .faster_rcnn_r50_fpn_12e import dataloader, lr_multiplier, model, optimizer, train

model.backbone.neck = [model.backbone.neck, dict(type="BFP", refine_index=2, refine="non_local")]
