"""Faster R-CNN, ResNet-50, FPN, 12 epochs of any COCO-format folder, whose classes are read from its annotations.

    FPN_PLUGINS_COCO=data/my_set python tools/train.py configs/mmdet/faster_rcnn_r50_fpn_coco_folder.py

The annotations need boxes alone. Starts from ImageNet weights; add ``--cfg-options load_from=FILE`` to start from a
detector. The learning rate is for 8 x 2 images; add ``--auto-scale-lr`` for another batch size.
"""

_base_ = [
    "mmdet::_base_/models/faster-rcnn_r50_fpn.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
    "_base_/coco_folder.py",
]
model = dict(neck=dict(type="fpn_plugins.FPN"), roi_head=dict(bbox_head=dict(num_classes={{_base_.num_classes}})))
