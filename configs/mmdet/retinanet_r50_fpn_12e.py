"""RetinaNet, ResNet-50, FPN P3-P7, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our neck: same data, schedule and pre-trained backbone. Expect the published result of
``retinanet/retinanet_r50_fpn_1x_coco.py``: box AP 36.5, published by mmdet.

    python tools/train.py configs/mmdet/retinanet_r50_fpn_12e.py
"""

_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
model = dict(neck=dict(type="fpn_plugins.FPN"))
