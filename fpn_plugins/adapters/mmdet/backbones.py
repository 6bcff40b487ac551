"""Register backbones, and a backbone joined with its neck, in MMDetection."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import backbones, necks
from ...checks import near_names, shown
from ...features import FeatureSpec
from ...pyramid import Pyramid
from ...registry import MODELS
from .arguments import Cfg, build_part, own_type
from .init_cfg import LoadedBackbone, TakesInitCfg


@MODELS.register_module()
class TimmBackbone(LoadedBackbone, backbones.TimmBackbone, BaseModule):
    """`fpn_plugins.TimmBackbone` with ``init_cfg``; ``frozen_stages`` and ``norm_eval`` mean the same as in mmdet."""


@MODELS.register_module()
class ViT(LoadedBackbone, backbones.ViT, BaseModule):
    """`fpn_plugins.ViT` with ``init_cfg``; weights of mmdet's ``projects/ViTDet`` need ``norm_eps=1e-5``."""


@MODELS.register_module()
class MViT(LoadedBackbone, backbones.MViT, BaseModule):
    """`fpn_plugins.MViT` with ``init_cfg``."""


@MODELS.register_module()
class MultiDepthViT(LoadedBackbone, backbones.MultiDepthViT, BaseModule):
    """`fpn_plugins.MultiDepthViT` with ``init_cfg``."""


@MODELS.register_module()
class ViTAdapter(LoadedBackbone, backbones.ViTAdapter, BaseModule):
    """`fpn_plugins.ViTAdapter` with ``init_cfg``; ``vit`` holds arguments of this package's `ViT`."""


@MODELS.register_module()
class TimmHybrid(LoadedBackbone, backbones.TimmHybrid, BaseModule):
    """`fpn_plugins.TimmHybrid` with ``init_cfg``."""


@MODELS.register_module()
class DetectoRSResNet(LoadedBackbone, backbones.DetectoRSResNet, BaseModule):
    """`fpn_plugins.DetectoRSResNet` with ``init_cfg``."""


@MODELS.register_module()
class ImagePyramid(TakesInitCfg, backbones.ImagePyramid, BaseModule):
    """`fpn_plugins.ImagePyramid` with ``init_cfg``; ``backbone`` is the config of a backbone of this package."""

    def __init__(self, backbone: Cfg, *args: Any, **kwargs: Any) -> None:
        super().__init__(build_part("backbone", backbone), *args, **kwargs)


@MODELS.register_module()
class HybridCNNViT(TakesInitCfg, backbones.HybridCNNViT, BaseModule):
    """`fpn_plugins.HybridCNNViT` with ``init_cfg``; ``cnn`` is the config of a backbone of this package."""

    def __init__(self, cnn: Cfg, *args: Any, **kwargs: Any) -> None:
        super().__init__(build_part("cnn", cnn), *args, **kwargs)


@MODELS.register_module()
class SpatialTuningAdapter(LoadedBackbone, backbones.SpatialTuningAdapter, BaseModule):
    """`fpn_plugins.SpatialTuningAdapter` with ``init_cfg``; ``vit`` is the config of a backbone of this package."""

    def __init__(self, vit: Cfg, *args: Any, **kwargs: Any) -> None:
        super().__init__(build_part("vit", vit), *args, **kwargs)


@MODELS.register_module()
class CorePyramid(TakesInitCfg, Pyramid, BaseModule):
    """`fpn_plugins.Pyramid` as an mmdet backbone with ``init_cfg``, configured with the core's arguments.

    The same arguments build the same network, with the same initialization, in Detectron2 (``MODEL.FPN_PLUGINS``). Use
    it as ``backbone=`` of any detector with ``neck=None``.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to the pyramid's maps, high to low resolution.

        Channels-last maps are copied to NCHW: mmcv's RoIAlign reads any map as if it were NCHW-contiguous, without an
        error.
        """
        maps = self.maps(x)
        return tuple(feature.contiguous() for feature in maps) if self.channels_last else tuple(maps)


@MODELS.register_module()
class PyramidBackbone(CorePyramid):
    """`CorePyramid` with parts configured by mmdet's arguments; see `Pyramid` for arguments that are not listed.

    Args:
        backbone: config of a backbone of this package; the scope may be left out.
        neck: config of a neck of this package without ``in_channels``, with mmdet's arguments (``num_outs``,
            ``norm_cfg``, ...), or several of them, applied one after the other; the scope may be left out.
        channels_last: the final copy to NCHW costs much of what a neck gains (``docs/bench_necks.md``); measure first.
        autocast: maps are single precision, the only type that mmcv's CPU operators take.

    Raises:
        TypeError: a backbone without ``feature_specs``, or a neck that is neither this package's nor registered with
            `fpn_plugins.register_neck`.
    """

    def __init__(
        self,
        backbone: Cfg,
        neck: Cfg | Sequence[Cfg] | None,
        init_cfg: Cfg | None = None,
        channels_last: bool = False,
        autocast: str | None = None,
        out_positions: Sequence[int] | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        built = build_part("backbone", backbone)
        specs = self._in_specs(built)
        necks = []
        configs = [neck] if isinstance(neck, Mapping) else [] if neck is None else neck
        if not isinstance(configs, Sequence) or not all(isinstance(config, Mapping) for config in configs):
            raise TypeError(
                f"PyramidBackbone neck={shown(neck)} must be the config of a neck, a list of configs, or None"
            )
        for config in configs:
            necks.append(_build_neck(config, specs))
            specs = necks[-1].out_specs(specs)
        parts = necks if len(necks) > 1 else next(iter(necks), None)
        options: dict[str, Any] = {"init_cfg": init_cfg, "compile": compile}
        super().__init__(built, parts, out_positions, channels_last, autocast, **options)


def _build_neck(config: Cfg, specs: Sequence[FeatureSpec]) -> Any:
    config = own_type(config, "neck")
    if not hasattr(config["type"], "out_specs"):
        raise TypeError(
            f"PyramidBackbone neck={config['type']!r} is not a neck of fpn_plugins; give backbone and neck to the "
            f"detector separately{near_names(config['type'], necks.NECKS)}"
        )
    parameters = inspect.signature(config["type"]).parameters
    several = "num_levels" in parameters  # mmdet's BFP and DyHead: equal channels, and a number
    channels = [spec.channels for spec in specs]
    channels = channels[1:] if "image_channels" in parameters else channels  # mmdet's RFP does not list the image
    inputs = {"in_channels": channels[0], "num_levels": len(channels)} if several else {"in_channels": channels}
    return MODELS.build({**inputs, **config})
