"""RetinaNet, ConvNeXt-T from timm, FPN P3-P7, 12 epochs of COCO (8 x 2 images).

mmdet's own ``retinanet_r50_fpn_1x_coco.py`` with another backbone and AdamW; no result has been published. The
backbone's maps are normalized, as in ConvNeXt's detectors (arXiv:2201.03545, appendix A.3).

    python tools/train.py configs/mmdet/retinanet_convnext_t_fpn_12e.py
"""

_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="TimmBackbone",
            name="convnext_tiny.fb_in1k",
            out_indices=(1, 2, 3),
            pretrained=True,
            drop_path_rate=0.4,
            output_norm="LN",
        ),
        neck=dict(type="FPN", out_channels=256, num_outs=5, add_extra_convs="on_input", relu_before_extra_convs=True),
    ),
    neck=None,
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
