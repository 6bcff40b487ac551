"""ViT-B of ViTDet, with its schedule of 100 epochs; configs read ``vit`` from here."""

_base_ = "vitdet_100e.py"

vit = dict(
    type="ViT",
    img_size=1024,
    embed_dim=768,
    depth=12,
    num_heads=12,
    drop_path_rate=0.1,
    window_size=14,
    global_block_indices=(2, 5, 8, 11),
    checkpoint="data/weights/mae_pretrain_vit_base.pth",
)
