"""Set the learning rate of a pyramid's backbone with an mmengine optimizer constructor."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ...registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneRate(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, with another learning rate inside the backbone of a `PyramidBackbone`.

    ``paramwise_cfg`` takes ``backbone_lr_mult`` besides mmengine's own keys. A key of ``custom_keys`` would do the
    same, but mmengine applies ``norm_decay_mult`` and ``bias_decay_mult`` to no parameter that such a key matches. The
    rates are those of Detectron2 with ``lr_factor_func=bottom_up_lr_factor``.

    Raises:
        KeyError: ``backbone_lr_mult`` is missing.
    """

    prefix = "backbone.backbone."

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Add one group per parameter of ``module``; mmengine calls this for the detector and recurses."""
        super().add_params(params, module, prefix, **options)
        if prefix:
            return
        inside = {id(value) for name, value in module.named_parameters() if name.startswith(self.prefix)}
        for group in params:
            if id(group["params"][0]) in inside:
                group["lr"] = group.get("lr", self.base_lr) * self.paramwise_cfg["backbone_lr_mult"]
