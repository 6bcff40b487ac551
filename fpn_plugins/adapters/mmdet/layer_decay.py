"""Set layer-wise learning rates with an mmengine optimizer constructor."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ...registry import OPTIM_WRAPPER_CONSTRUCTORS
from ...training import layer_lr_factors


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViTLayerDecay(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with learning rates multiplied by `fpn_plugins.training.layer_lr_factors`.

    ``paramwise_cfg`` takes ``decay_rate`` and ``num_layers`` besides mmengine's own keys. ``num_layers``, the number of
    layers without embeddings and heads, is checked; it may be left out for this package's backbones, and is needed for
    another plain ViT. For timm's networks, the layers are timm's.

    ViTDet's recipe, with the same parameter groups as Detectron2's::

        constructor="fpn_plugins.ViTLayerDecay",
        paramwise_cfg=dict(
            decay_rate=0.7, num_layers=12,
            norm_decay_mult=0.0, custom_keys={"pos_embed": dict(decay_mult=0.0)},
        )

    ``norm_decay_mult`` applies to PyTorch's norms only. The channel-first LayerNorm of the pyramid and the heads
    (`LN2d`) is decayed, as in Detectron2, whose ``weight_decay_norm`` does not cover that norm either.

    Raises:
        KeyError: ``decay_rate`` is missing.
        ValueError: a backbone whose layers are not known, or that has another number of layers than ``num_layers``.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Add one group per parameter of ``module``; mmengine calls this for the detector and recurses."""
        super().add_params(params, module, prefix, **options)
        if prefix:
            return
        decay = self.paramwise_cfg["decay_rate"]
        factors = layer_lr_factors(module, decay, self.paramwise_cfg.get("num_layers"))
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in params:
            (parameter,) = group["params"]
            group.setdefault("lr", self.base_lr)
            group["lr"] *= factors[names[id(parameter)]]
