"""Mask R-CNN of the ablation studies: ``demo_mask_rcnn`` in batches of four images, with 128 regions of each.

``tools/studies/ablations/study.py`` varies its pyramid, anchors and length. The mmdet file of the same stem has the
same network and schedule.
"""

from .demo_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.batch_size_per_image = 128
dataloader.train.total_batch_size = 4
