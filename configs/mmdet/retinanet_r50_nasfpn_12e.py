"""RetinaNet, ResNet-50, NAS-FPN P3-P7 of seven repeats with BN, 12 epochs of COCO (8 x 2 images).

``retinanet_r50_fpn_12e`` with another neck. mmdet publishes NAS-FPN with 50 epochs at 640 x 640 only (box AP 40.5).

    python tools/train.py configs/mmdet/retinanet_r50_nasfpn_12e.py
"""

_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
model = dict(
    neck=dict(
        _delete_=True,
        type="fpn_plugins.NASFPN",
        in_channels={{_base_.model.neck.in_channels}},
        out_channels={{_base_.model.neck.out_channels}},
        num_outs=5,
        stack_times=7,
        start_level=1,
        norm_cfg=dict(type="BN", requires_grad=True),
    )
)
