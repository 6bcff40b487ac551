"""Learning rates per layer for fine-tuning a Vision Transformer.

Source: BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, appendix); reference implementation:
detectron2's ``get_vit_lr_decay_rate`` (``modeling/backbone/vit.py``).
"""

from __future__ import annotations

import re

# what comes before the first block: the embeddings, and a convolutional network that they are made of
_EMBEDDING = re.compile(r"\.(pos_embed|patch_embed|cls_token|cnn)(\.|$)")
_BLOCK = re.compile(r"\.blocks\.(\d+)\.(?!residual\.)")


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
