"""Weigh pyramid levels in the loss of a dense head, and set layer-wise learning rates.

A dense detector sums the losses of its levels: ``L = sum_l L_l / normalizer``. With weights, it is
``L = sum_l w_l L_l / normalizer``, where ``L_l`` is the loss of all anchors of level l, positive and negative, and the
normalizer (the number of positive anchors on all levels) stays that of the unweighted loss. Weights of 1 change
nothing; doubled weights double the loss. `fpn_plugins.data.balanced_level_weights` computes weights that keep the scale
of the loss.

Layer-wise learning rates: BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, appendix); reference implementation:
Detectron2's ``get_vit_lr_decay_rate`` (``modeling/backbone/vit.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

# parts before the first block: the embeddings, and the convolutional network that computes them in a hybrid
_EMBEDDING = re.compile(r"\.(pos_embed|patch_embed|cls_token|cnn)(\.|$)")
_BLOCK = re.compile(r"\.blocks\.(\d+)\.(?!residual\.)")


def check_level_weights(level_weights: Sequence[float] | None, num_levels: int) -> tuple[float, ...] | None:
    """Check that there is one weight per level, and return the weights as floats.

    Args:
        level_weights: weights, high to low resolution, none below 0 and not all 0; ``None`` and an empty sequence give
            ``None``, the unweighted loss.
        num_levels: number of levels of the head.

    Raises:
        ValueError: another number of weights than levels, or weights that are negative, not finite, or all 0.
    """
    if level_weights is None or len(level_weights) == 0:
        return None
    weights = tuple(float(weight) for weight in level_weights)
    if len(weights) != num_levels:
        raise ValueError(
            f"level_weights={list(weights)} are {len(weights)} weights, the head has {num_levels} levels; "
            "give one per level, high to low resolution"
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ValueError(f"level_weights={list(weights)} must be finite, none below 0 and not all 0")
    return weights


def weigh_levels(losses: Sequence[Tensor], level_weights: Sequence[float]) -> list[Tensor]:
    """Multiply each level's loss (a tensor of any shape, usually a scalar) by its weight."""
    return [weight * loss for weight, loss in zip(level_weights, losses, strict=True)]


def vit_lr_factor(name: str, decay: float, depth: int) -> float:
    """Compute the factor of a parameter's learning rate: ``decay`` to the power of the number of layers above it.

    Embeddings are layer 0 and block ``i`` (counted from 0) is layer ``i + 1``. Parameters without pretraining (neck,
    heads, a block's ``residual`` convolutions, resampling) get the full rate. For Detectron2's own names, the result
    matches ``get_vit_lr_decay_rate(name, decay, depth)``. Here, a neck's ``blocks`` are not layers of the ViT, and a
    class token and the CNN of a `HybridCNNViT` are layer 0, as timm counts them.

    Args:
        name: name of the parameter in the detector: ``backbone.bottom_up.blocks.3.attn.qkv.weight`` in Detectron2,
            ``backbone.backbone.blocks.3...`` or ``backbone.blocks.3...`` in mmdet.
        decay: factor between adjacent layers; ViTDet uses 0.7 for ViT-B, 0.8 for ViT-L and 0.9 for ViT-H.
        depth: number of blocks of the ViT.

    Raises:
        ValueError: the parameter belongs to a block beyond ``depth``.
    """
    if not name.startswith("backbone.") or ".neck." in name:
        return 1.0
    if _EMBEDDING.search(name):
        return decay ** (depth + 1)
    block = _BLOCK.search(name)
    if block is None:
        return 1.0
    index = int(block[1])
    if index >= depth:
        raise ValueError(f"depth={depth}, but there is a parameter {name!r} of block {index}; set the ViT's depth")
    return decay ** (depth - index)
