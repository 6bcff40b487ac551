"""RetinaNet, Swin-T, FPN P3-P7, 12 epochs of COCO (8 x 2 images).

mmdet's own ``swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py`` with our backbone and neck, including its SGD at 0.01; mmdet
publishes no result.

    python tools/train.py configs/mmdet/retinanet_swin_t_fpn_12e.py
"""

_base_ = "mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py"
model = dict(backbone=dict(type="fpn_plugins.SwinTransformer"), neck=dict(type="fpn_plugins.FPN"))
