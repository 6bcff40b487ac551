"""ViT-L of ViTDet, with its schedule of 100 epochs; configs read ``vit`` from here."""

_base_ = "vitdet_b.py"

vit = dict(
    embed_dim=1024,
    depth=24,
    num_heads=16,
    drop_path_rate=0.4,
    global_block_indices=(5, 11, 17, 23),
    checkpoint="data/weights/mae_pretrain_vit_large.pth",
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8, num_layers=24))
