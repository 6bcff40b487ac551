"""ViT-H of ViTDet, with its schedule of 75 epochs; configs read ``vit`` from here.

Position embeddings and norms are decayed like the rest, as in Detectron2's config.
"""

_base_ = "vitdet_b.py"

max_iters = 138281  # 184375 * 3 / 4
vit = dict(
    embed_dim=1280,
    depth=32,
    num_heads=16,
    drop_path_rate=0.5,
    global_block_indices=(7, 15, 23, 31),
    checkpoint="data/weights/mae_pretrain_vit_huge_p14to16.pth",
)
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, decay_rate=0.9, num_layers=32))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", milestones=[122916, 133159], gamma=0.1, by_epoch=False, begin=0, end=max_iters),
]
