"""Weigh pyramid levels in the loss of a dense head, and set layer-wise learning rates.

A dense detector sums the losses of its levels: ``L = sum_l L_l / normalizer``. With weights, it is
``L = sum_l w_l L_l / normalizer``, where ``L_l`` is the loss of all anchors of level l, positive and negative, and the
normalizer (the number of positive anchors on all levels) stays that of the unweighted loss. Weights of 1 change
nothing; doubled weights double the loss. `fpn_plugins.data.balanced_level_weights` computes weights that keep the scale
of the loss.

Layer-wise learning rates: BEiT (arXiv:2106.08254) and ViTDet (arXiv:2203.16527, appendix); reference implementations:
Detectron2's ``get_vit_lr_decay_rate`` (``modeling/backbone/vit.py``) and timm's ``param_groups_layer_decay``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from .backbones.base import Backbone
from .checks import numbers

# a plain ViT's parameters in a detector: embeddings (with the convolutional network that computes them in a hybrid),
# blocks, and parts without pre-training: necks of both packages, norms and resampling of the maps
_PLAIN_VIT = re.compile(
    r"backbone\.((net|bottom_up|vit|backbone|model|module|encoder|image_encoder)\.)*("
    r"(?P<embedding>pos_embed|patch_embed|cls_token|dist_token|reg_token|register_tokens|mask_token|norm_pre|cnn)(\.|$)"
    r"|blocks\.(?P<block>\d+)\.((?P<residual>residual)\.|(?!\d))"
    r"|(neck|simfp_\d+|fpn_(lateral|output)\d+|top_block|resamples|downsample|detail_convs|fusion_convs|norms?\d*|fc_norm"
    r"|scale\d_norm|prior|interactions|up)\.|level_embed$)"
)


def check_level_weights(level_weights: Sequence[float] | None, num_levels: int) -> tuple[float, ...] | None:
    """Check that there is one weight per level, and return the weights as floats.

    Args:
        level_weights: weights, high to low resolution, none below 0 and not all 0; ``None`` and an empty sequence give
            ``None``, the unweighted loss.
        num_levels: number of levels of the head.

    Raises:
        ValueError: another number of weights than levels, or weights that are negative, not finite, or all 0.
    """
    if level_weights is None or isinstance(level_weights, Sequence) and len(level_weights) == 0:
        return None
    try:
        weights = numbers("level_weights", level_weights)
    except ValueError:
        raise ValueError(f"level_weights={level_weights!r} must be finite, none below 0 and not all 0") from None
    if len(weights) != num_levels:
        raise ValueError(
            f"level_weights={list(weights)} are {len(weights)} weights, the head has {num_levels} levels; "
            "give one per level, high to low resolution"
        )
    if min(weights) < 0 or not any(weights):
        raise ValueError(f"level_weights={list(weights)} must be finite, none below 0 and not all 0")
    return weights


def weigh_levels(losses: Sequence[Tensor], level_weights: Sequence[float]) -> list[Tensor]:
    """Multiply each level's loss (a tensor of any shape, usually a scalar) by its weight."""
    return [weight * loss for weight, loss in zip(level_weights, losses, strict=True)]


def layer_lr_factors(model: nn.Module, decay: float, num_layers: int | None = None) -> dict[str, float]:
    """Compute the factor of each parameter's learning rate: ``decay`` to the power of the number of layers above it.

    The layers are those of the model's backbones of this package (`Backbone.parameter_layers`): timm's own for its
    networks, blocks for `ViT`, `Swin` and `MViT`. All other parameters get the full rate.

    Args:
        model: a detector, or a backbone alone.
        decay: factor between adjacent layers; ViTDet uses 0.7 for ViT-B, 0.8 for ViT-L and 0.9 for ViT-H.
        num_layers: number of layers between the embeddings and the heads, checked; ``None`` takes the backbone's. A
            model with another plain ViT under ``backbone`` needs it, for `vit_lr_factor`.

    Returns:
        Factor of each parameter by its name in ``model``.

    Raises:
        ValueError: a backbone whose layers are not known, or that has another number of layers.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    backbones = _outer_backbones(model)
    if not backbones:
        return _by_name(model, names, decay, num_layers)
    factors = dict.fromkeys(names, 1.0)
    for prefix, backbone in backbones.items():
        layers, top = backbone.parameter_layers()
        _check_num_layers(num_layers, {prefix + name: layer for name, layer in layers.items()}, top)
        parameters = list(backbone.named_parameters(remove_duplicate=False))  # shared ones have several names
        found = {id(parameter): layers[name] for name, parameter in parameters if name in layers}
        for name, parameter in parameters:
            factors[prefix + name] = decay ** (top - found.get(id(parameter), top))
    return factors


def _outer_backbones(model: nn.Module) -> dict[str, Backbone]:
    """Find the backbones that are not part of another backbone, by their prefix."""
    found: dict[str, Backbone] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, Backbone) and not prefix.startswith(tuple(found)):
            found[prefix] = module
    return found


def _by_name(model: nn.Module, names: Sequence[str], decay: float, num_layers: int | None) -> dict[str, float]:
    backbone = type(getattr(model, "backbone", model)).__name__
    if num_layers is None:
        raise ValueError(f"{backbone} is no backbone of fpn_plugins: set the number of its blocks (num_layers)")
    try:
        return {name: vit_lr_factor(name, decay, num_layers) for name in names}
    except ValueError as error:
        raise ValueError(f"the layers of {backbone} are not known: {error}") from error


def _check_num_layers(num_layers: int | None, layers: Mapping[str, int], top: int) -> None:
    if num_layers is None or num_layers == top - 1:
        return
    beyond = next((name for name, layer in layers.items() if layer == num_layers + 1), None)
    found = f"there is a parameter {beyond!r} above it" if beyond else f"the backbone has {top - 1} layers"
    raise ValueError(f"depth={num_layers}, but {found}; set the depth (num_layers) to {top - 1}, or leave it out")


def vit_lr_factor(name: str, decay: float, depth: int) -> float:
    """Compute the factor of a plain ViT's parameter from its name alone; for other backbones see `layer_lr_factors`.

    Embeddings are layer 0 and block ``i`` (counted from 0) is layer ``i + 1``. Parameters without pretraining (neck,
    heads, a block's ``residual`` convolutions, resampling) get the full rate. For Detectron2's own names, the result
    matches ``get_vit_lr_decay_rate(name, decay, depth)``. Here, a neck's ``blocks`` are not layers of the ViT, and a
    class token, registers and the CNN of a `HybridCNNViT` are layer 0, as timm counts them.

    Args:
        name: name of the parameter in the detector: ``backbone.bottom_up.blocks.3.attn.qkv.weight`` in Detectron2,
            ``backbone.backbone.blocks.3...`` or ``backbone.blocks.3...`` in mmdet.
        decay: factor between adjacent layers, as in `layer_lr_factors`.
        depth: number of blocks of the ViT.

    Raises:
        ValueError: the parameter belongs to a block beyond ``depth``, or is no plain ViT's.
    """
    if not name.startswith("backbone.") or ".neck." in name:
        return 1.0
    match = _PLAIN_VIT.match(name)
    if match is None:
        raise ValueError(
            f"vit_lr_factor knows the layers of plain ViTs, and the backbone's parameter {name!r} is none of theirs; "
            "use fpn_plugins.training.layer_lr_factors (Detectron2: get_layer_decay_params), or one rate"
        )
    if match["embedding"]:
        return decay ** (depth + 1)
    if match["block"] is None or match["residual"]:
        return 1.0
    index = int(match["block"])
    if index >= depth:
        raise ValueError(f"depth={depth}, but there is a parameter {name!r} of block {index}; set the ViT's depth")
    return decay ** (depth - index)
