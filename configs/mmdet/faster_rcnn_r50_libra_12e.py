"""Libra R-CNN: Faster R-CNN, ResNet-50, FPN and balanced feature pyramid, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our necks: same data, schedule and pre-trained backbone, with mmdet's IoU-balanced sampling and
balanced L1 loss. Expect the published result of ``libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py``: box AP 38.3,
published by mmdet.

    python tools/train.py configs/mmdet/faster_rcnn_r50_libra_12e.py
"""

_base_ = "mmdet::libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py"
# a list replaces the base's list as a whole; a test compares the two
model = dict(
    neck=[
        dict(type="fpn_plugins.FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
        dict(type="fpn_plugins.BFP", in_channels=256, num_levels=5, refine_level=2, refine_type="non_local"),
    ]
)
