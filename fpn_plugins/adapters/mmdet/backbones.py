"""Backbones for MMDetection, and the backbone with its neck in one."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.model.weight_init import initialize
from torch import Tensor

from ... import backbones
from ...registry import MODELS
from .factories import Cfg
from .fpn import own_type


class _LoadedBackbone(BaseModule):
    """A backbone that has initialised itself and loaded its weights when it is built."""

    def init_weights(self) -> None:
        """Apply ``init_cfg`` alone: mmengine's own would go on to the inner modules and overwrite loaded weights."""
        if self.init_cfg and not self.is_init:
            initialize(self, self.init_cfg)
            self._freeze()
        self._is_init = True

    def _freeze(self) -> None:
        """Nothing, where the backbone fixes no parameters."""


@MODELS.register_module()
class TimmBackbone(backbones.TimmBackbone, _LoadedBackbone):
    """`fpn_plugins.TimmBackbone` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    mmdet's ``frozen_stages`` and ``norm_eval`` mean the same here. The image has to be normalised as the weights want
    it: set the data preprocessor's ``mean`` and ``std`` to 255 times the backbone's, with ``bgr_to_rgb=True``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class ViT(backbones.ViT, _LoadedBackbone):
    """`fpn_plugins.ViT` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    Set the data preprocessor's ``mean`` and ``std`` to the backbone's ``pixel_mean`` and ``pixel_std``, with
    ``bgr_to_rgb=True``. Weights of mmdet's own ViTDet project were trained with ``norm_eps=1e-5``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class MViT(backbones.MViT, _LoadedBackbone):
    """`fpn_plugins.MViT` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    Set the data preprocessor's ``mean`` and ``std`` to the backbone's ``pixel_mean`` and ``pixel_std``, with
    ``bgr_to_rgb=True``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class ImagePyramid(backbones.ImagePyramid, BaseModule):
    """`fpn_plugins.ImagePyramid` as an mmdet backbone; ``backbone`` is the config of one of this package's."""

    def __init__(self, backbone: Cfg, *args: Any, init_cfg: Cfg | None = None, **kwargs: Any) -> None:
        super().__init__(MODELS.build(own_type(backbone)), *args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class MultiDepthViT(backbones.MultiDepthViT, _LoadedBackbone):
    """`fpn_plugins.MultiDepthViT` as an mmdet backbone; all of its arguments, and ``init_cfg``."""

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class HybridCNNViT(backbones.HybridCNNViT, BaseModule):
    """`fpn_plugins.HybridCNNViT` as an mmdet backbone; ``cnn`` is the config of one of this package's."""

    def __init__(self, cnn: Cfg, *args: Any, init_cfg: Cfg | None = None, **kwargs: Any) -> None:
        super().__init__(MODELS.build(own_type(cnn)), *args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class TimmHybrid(backbones.TimmHybrid, _LoadedBackbone):
    """`fpn_plugins.TimmHybrid` as an mmdet backbone; all of its arguments, and ``init_cfg``."""

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class PyramidBackbone(BaseModule):
    """Backbone and neck in one, the neck wired from the backbone's ``feature_specs``, so that no channel is typed.

    Args:
        backbone: config of one of this package's backbones; the scope may be left out.
        neck: config of one of this package's necks without ``in_channels``, in mmdet's vocabulary (``num_outs``,
            ``norm_cfg``, ...); the scope may be left out.
        init_cfg: mmengine's.

    Use it as ``backbone=`` of any detector with ``neck=None``. State dict: ``backbone.*`` and ``neck.*``.

    Raises:
        TypeError: a backbone that publishes no ``feature_specs``, or a neck that is not of this package.
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
        neck = own_type(neck)
        if not hasattr(neck["type"], "out_specs"):
            raise TypeError(
                f"PyramidBackbone neck={neck['type']!r} is not a neck of fpn_plugins; "
                "give backbone and neck to the detector separately"
            )
        self.neck = MODELS.build({"in_channels": [spec.channels for spec in specs], **neck})
        self.feature_specs = self.neck.out_specs(specs)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to the pyramid's maps, high to low resolution."""
        return self.neck(self.backbone(x))
