"""Backbones for MMDetection, and the backbone with its neck in one."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.model.weight_init import initialize
from torch import Tensor

from ... import backbones
from ...registry import MODELS
from .factories import Cfg
from .fpn import neck_arguments, own_type


@MODELS.register_module()
class TimmBackbone(backbones.TimmBackbone, BaseModule):
    """`fpn_plugins.TimmBackbone` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    mmdet's ``frozen_stages`` and ``norm_eval`` mean the same here. The image has to be normalised as the weights want
    it: set the data preprocessor's ``mean`` and ``std`` to 255 times the backbone's, with ``bgr_to_rgb=True``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg

    def init_weights(self) -> None:
        """Apply ``init_cfg`` alone: mmengine's own would go on to timm's modules and overwrite their loaded weights."""
        if self.init_cfg and not self.is_init:
            initialize(self, self.init_cfg)
            self._freeze()
        self._is_init = True


@MODELS.register_module()
class PyramidBackbone(BaseModule):
    """Backbone and neck in one, the neck wired from the backbone's ``feature_specs``, so that no channel is typed.

    Args:
        backbone: config of a backbone that publishes ``feature_specs`` (those of this package; the scope may be left
            out).
        neck: config of a neck without ``in_channels``; mmdet's vocabulary (``num_outs``, ``norm_cfg``, ...). A name
            that
            this package has means ours.
        init_cfg: mmengine's.

    Use it as ``backbone=`` of any detector with ``neck=None``. State dict: ``backbone.*`` and ``neck.*``.

    Raises:
        TypeError: a backbone that publishes no ``feature_specs``.
    """

    def __init__(self, backbone: Cfg, neck: Cfg, init_cfg: Cfg | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = MODELS.build(own_type(backbone))
        specs = getattr(self.backbone, "feature_specs", None)
        if specs is None:
            raise TypeError(
                f"PyramidBackbone backbone={backbone['type']!r} publishes no feature_specs; use a backbone of "
                "fpn_plugins, or give backbone and neck to the detector separately"
            )
        self.neck = MODELS.build(neck_arguments(own_type(neck), [spec.channels for spec in specs]))
        self.feature_specs = self.neck.out_specs(specs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to the pyramid's maps, high to low resolution."""
        return self.neck(self.backbone(x))
