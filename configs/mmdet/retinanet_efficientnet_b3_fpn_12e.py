"""RetinaNet, EfficientNet-B3 from timm, FPN P3-P7, 12 epochs of COCO in crops of 896 pixels (8 x 4 images).

mmdet's own ``efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py`` with our neck and timm's network (the same
weights; batch norms are not synchronized). mmdet publishes box AP 40.5 for its config.

    python tools/train.py configs/mmdet/retinanet_efficientnet_b3_fpn_12e.py
"""

_base_ = "mmdet::efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.TimmBackbone",
        name="tf_efficientnet_b3.aa_in1k",
        out_indices=(2, 3, 4),
        pretrained=True,
        frozen_stages=1,
        drop_path_rate=0.2,
    ),
    neck=dict(type="fpn_plugins.FPN"),
)
