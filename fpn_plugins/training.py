"""Training: weights of the pyramid's levels in the loss of a dense head, and layer-wise learning rates.

A dense detector adds up the losses of its levels: ``L = sum_l L_l / normalizer``. With weights it is
``L = sum_l w_l L_l / normalizer``, where ``L_l`` is everything that level l contributes, positive and negative anchors,
and the normalizer (the number of positive anchors of all levels) is that of the unweighted loss. Weights that are all 1
change nothing; doubled weights double the loss. `fpn_plugins.data.balanced_level_weights` computes weights that keep
the loss's scale.

Layer-wise learning rates: BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, appendix); reference implementation:
detectron2's ``get_vit_lr_decay_rate`` (``modeling/backbone/vit.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

# what comes before the first block: the embeddings, and a convolutional network that they are made of
_EMBEDDING = re.compile(r"\.(pos_embed|patch_embed|cls_token|cnn)(\.|$)")
_BLOCK = re.compile(r"\.blocks\.(\d+)\.(?!residual\.)")


def check_level_weights(level_weights: Sequence[float] | None, num_levels: int) -> tuple[float, ...] | None:
    """One weight per level, as floats; ``None`` and an empty sequence are ``None``, the unweighted loss.

    Args:
        level_weights: high to low resolution, none below 0 and not all 0.
        num_levels: levels of the head.

    Raises:
        ValueError: another number of weights than levels (names both), or a weight that is negative or not finite.
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
    """Each level's loss (any shape, usually a scalar) times its weight."""
    return [weight * loss for weight, loss in zip(level_weights, losses, strict=True)]


def vit_lr_factor(name: str, decay: float, depth: int) -> float:
    """Factor of the learning rate of one parameter: ``decay`` once for each layer above it.

    Embeddings are layer 0, block ``i`` (counted from 0) is layer ``i + 1``; everything else, which is new (the neck,
    the heads, a block's ``residual`` convolutions, resampling), gets the full rate.

    Args:
        name: the parameter's name in the detector, ``backbone.bottom_up.blocks.3.attn.qkv.weight`` in Detectron2,
            ``backbone.backbone.blocks.3...`` or ``backbone.blocks.3...`` in mmdet.
        decay: factor from layer to layer; ViTDet: 0.7 for ViT-B, 0.8 for ViT-L, 0.9 for ViT-H.
        depth: number of blocks.

    On detectron2's own names this is ``get_vit_lr_decay_rate(name, decay, depth)``. Here a neck's ``blocks`` are no
    layers of the ViT, and a class token and the CNN of a `HybridCNNViT` are layer 0, as timm counts them.

    Raises:
        ValueError: a block beyond ``depth``.
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
