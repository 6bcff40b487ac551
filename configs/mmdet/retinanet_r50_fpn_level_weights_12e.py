"""RetinaNet, ResNet-50, FPN, losses weighted by level, 12 epochs of COCO (8 x 2 images).

``retinanet_r50_fpn_12e`` whose losses have a weight for each of P3-P7, computed from the sizes of the objects. These
weights come from 59 images of COCO; for the full set, or your own, print them with

    python tools/level_weights.py data/coco/annotations/instances_train2017.json

No result has been published.

    python tools/train.py configs/mmdet/retinanet_r50_fpn_level_weights_12e.py
"""

_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
model = dict(
    neck=dict(type="fpn_plugins.FPN"),
    bbox_head=dict(type="fpn_plugins.RetinaHead", level_weights=[0.779, 0.965, 1.086, 1.247, 1.756]),
)
