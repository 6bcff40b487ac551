"""Mask R-CNN of the ablation studies: ``demo_mask_rcnn`` in batches of four images, with 128 regions of each.

``tools/studies/ablations/study.py`` varies its pyramid, anchors and length. The Detectron2 file of the same stem has
the same network and schedule.
"""

_base_ = "demo_mask_rcnn.py"

model = dict(train_cfg=dict(rcnn=dict(sampler=dict(num=128))))
train_dataloader = dict(batch_size=4)
