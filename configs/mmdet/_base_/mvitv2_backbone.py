"""MViTv2-T with our FPN, on pixels as ImageNet's."""

model = dict(
    backbone=dict(
        _delete_=True,
        type="fpn_plugins.PyramidBackbone",
        backbone=dict(
            type="MViT",
            name="mvitv2_tiny",
            drop_path_rate=0.2,
            gradient_checkpointing=False,
            checkpoint="data/weights/MViTv2_T_in1k.pyth",
        ),
        neck=dict(type="FPN", out_channels=256, num_outs=5),
    ),
    neck=None,
)
