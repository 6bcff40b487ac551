"""RetinaNet, ResNet-50, BiFPN P3-P7 of three repeats, 12 epochs of COCO (8 x 2 images).

``retinanet_r50_fpn_12e`` with another neck; no result has been published (EfficientDet trains its BiFPN with other
backbones, for 300 epochs).

    python tools/train.py configs/mmdet/retinanet_r50_bifpn_12e.py
"""

_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
model = dict(
    neck=dict(
        _delete_=True,
        type="fpn_plugins.BiFPN",
        in_channels={{_base_.model.neck.in_channels}},
        out_channels={{_base_.model.neck.out_channels}},
        num_outs=5,
        num_repeats=3,
        start_level=1,
    )
)
