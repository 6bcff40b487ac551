"""RetinaNet, Swin-T, FPN P3-P7, 12 epochs of COCO (8 x 2 images).

mmdet's own config with our backbone and neck (``retinanet_swin-t-p4-w7_fpn_1x_coco.py``, SGD at 0.01 included); mmdet
publishes no result for it.

    python tools/train.py configs/mmdet/retinanet_swin_t_fpn_12e.py
"""

_base_ = "mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.FPN"))
