"""Optimizer and official ImageNet weights of Swin."""

from .recipe import adamw


def swin_adamw(lr):
    """Return AdamW as Swin is trained; norms and tables of positions are not decayed."""
    return adamw(lr, weight_decay=0.05, not_decayed=("relative_position_bias_table", "absolute_pos_embed"))


def swin_weights(name):
    """Return the address of a classifier's weights, whose keys lack the detector's prefix."""
    url = "https://github.com/SwinTransformer/storage/releases/download/v1.0.0"
    return f"{url}/{name}.pth?matching_heuristics=True"
