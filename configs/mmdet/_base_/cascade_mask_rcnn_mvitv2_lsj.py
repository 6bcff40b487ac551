"""Cascade Mask R-CNN of MViTv2 on COCO with large-scale jitter, every training image padded to the whole square."""

_base_ = ["cascade_mask_rcnn_mvitv2.py", "coco_lsj.py", "mvitv2_36e.py"]
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type="BatchFixedSizePad", size=(1024, 1024), pad_mask=True)]),
    backbone=dict(backbone={{_base_.mvit}}),
)
