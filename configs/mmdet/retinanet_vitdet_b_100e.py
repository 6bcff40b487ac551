"""RetinaNet, ViT-B, simple pyramid P3-P7, 100 epochs of COCO with large-scale jitter (16 x 4 images).

mmdet's RetinaNet on the backbone and with the schedule of ``mask_rcnn_vitdet_b_100e``; P6 and P7 are convolutions of
P5, with the ReLU between them. No result has been published.

    python tools/train.py configs/mmdet/retinanet_vitdet_b_100e.py
"""

_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "_base_/vitdet_lsj.py", "_base_/vitdet_b.py"]

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone={{_base_.vit}},
        neck=dict(
            type="SimpleFeaturePyramid",
            out_channels=256,
            scale_factors=(2.0, 1.0, 0.5),
            num_outs=5,
            add_extra_convs="on_output",
            relu_before_extra_convs=True,
        ),
    ),
    neck=None,
)
val_evaluator = dict(metric="bbox")
test_evaluator = val_evaluator
