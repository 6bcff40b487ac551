"""Backbones for MMDetection, and the backbone with its neck in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.model import BaseModule, PretrainedInit
from mmengine.model.weight_init import initialize
from torch import Tensor

from ... import backbones
from ...layers import as_autocast_dtype
from ...necks import build_neck
from ...registry import MODELS
from ...weights import read_checkpoint, strip_prefix
from .factories import Cfg
from .fpn import own_type


class LoadedBackbone(BaseModule):
    """A backbone that has initialised itself and loaded its weights when it is built; it may be given others here."""

    def init_weights(self) -> None:
        """Apply ``init_cfg`` alone: mmengine's own would go on to the inner modules and overwrite loaded weights.

        A ``Pretrained`` file comes last, as in mmengine. It is read by this package, which knows every layout, executes
        nothing, and loads it completely or not at all; of a whole detector, the part under ``prefix`` (``backbone.``).

        Raises:
            ValueError: a file of another architecture; lists the keys.
        """
        if self.init_cfg and not self.is_init:
            entries = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else list(self.init_cfg)
            files = [entry for entry in entries if entry["type"] in ("Pretrained", PretrainedInit)]
            others = [entry for entry in entries if entry not in files]
            if others:
                initialize(self, others)
            for entry in files:
                self._load_file(entry["checkpoint"], entry.get("prefix") or "backbone.")
            self._freeze()
        self._is_init = True

    def _load_file(self, checkpoint: str, prefix: str) -> None:
        weights = read_checkpoint(local_file(checkpoint))
        if any(key.startswith(prefix) for key in weights):
            weights = strip_prefix(weights, prefix)
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"init_cfg checkpoint={checkpoint!r} does not fit {type(self).__name__}: {error}"
            ) from error

    def _freeze(self) -> None:
        """Nothing, where the backbone fixes no parameters."""


def local_file(checkpoint: str) -> str:
    """The file itself, or that of an address in torch's download folder, where mmengine looks for it too."""
    if urlsplit(checkpoint).scheme not in ("http", "https"):
        return checkpoint
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(checkpoint).path).name)
    if get_local_rank() == 0 and not path.exists():  # once per machine
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(checkpoint, str(path))
    barrier()
    return str(path)


@MODELS.register_module()
class TimmBackbone(backbones.TimmBackbone, LoadedBackbone):
    """`fpn_plugins.TimmBackbone` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    mmdet's ``frozen_stages`` and ``norm_eval`` mean the same here. The image has to be normalised as the weights want
    it: set the data preprocessor's ``mean`` and ``std`` to 255 times the backbone's, with ``bgr_to_rgb=True``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class ViT(backbones.ViT, LoadedBackbone):
    """`fpn_plugins.ViT` as an mmdet backbone; all of its arguments, and ``init_cfg``.

    Set the data preprocessor's ``mean`` and ``std`` to the backbone's ``pixel_mean`` and ``pixel_std``, with
    ``bgr_to_rgb=True``. Weights of mmdet's own ViTDet project were trained with ``norm_eps=1e-5``.
    """

    def __init__(self, *args: Any, init_cfg: Cfg | list[Cfg] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg = init_cfg


@MODELS.register_module()
class MViT(backbones.MViT, LoadedBackbone):
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
class MultiDepthViT(backbones.MultiDepthViT, LoadedBackbone):
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
class TimmHybrid(backbones.TimmHybrid, LoadedBackbone):
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
        channels_last: compute on maps that lie channels-last in memory. Equal to rounding. The maps are copied to the
            usual layout at the end, as mmcv's RoIAlign reads any map as if it lay so, without a word; that copy takes
            much of what a neck gains (``docs/bench_necks.md``), so measure before you turn it on.
        autocast: ``"bfloat16"`` or ``"float16"``: compute backbone and neck under autocast, and hand the maps on in
            single precision, which is all that mmcv's ops for CPUs take. ``None`` leaves precision to the toolbox.

    Use it as ``backbone=`` of any detector with ``neck=None``. State dict: ``backbone.*`` and ``neck.*``.

    Raises:
        TypeError: a backbone that publishes no ``feature_specs``, or a neck that is not of this package or not one.
    """

    def __init__(
        self,
        backbone: Cfg,
        neck: Cfg,
        init_cfg: Cfg | None = None,
        channels_last: bool = False,
        autocast: str | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.autocast_dtype = as_autocast_dtype(autocast)
        self.backbone = MODELS.build(own_type(backbone))
        specs = getattr(self.backbone, "feature_specs", None)
        if specs is None:
            raise TypeError(
                f"PyramidBackbone backbone={backbone['type']!r} publishes no feature_specs; use a backbone of "
                "fpn_plugins, or give backbone and neck to the detector separately"
            )
        if not isinstance(neck, Mapping):
            raise TypeError(
                f"PyramidBackbone neck={neck!r} must be the config of one neck; give several to the detector separately"
            )
        neck = own_type(neck)
        if not hasattr(neck["type"], "out_specs"):
            raise TypeError(
                f"PyramidBackbone neck={neck['type']!r} is not a neck of fpn_plugins; "
                "give backbone and neck to the detector separately"
            )
        self.neck = MODELS.build({"in_channels": [spec.channels for spec in specs], **neck})
        self.feature_specs = self.neck.out_specs(specs)
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to the pyramid's maps, high to low resolution."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.autocast_dtype is None:
            maps = self.neck(self.backbone(x))
        else:
            with torch.autocast(x.device.type, self.autocast_dtype):
                maps = tuple(feature.float() for feature in self.neck(self.backbone(x)))
        return tuple(feature.contiguous() for feature in maps) if self.channels_last else maps


@MODELS.register_module()
class CorePyramid(BaseModule):
    """Backbone and neck in one as `PyramidBackbone`, both in this package's own vocabulary, not in mmdet's.

    One and the same declaration builds the same network here and in Detectron2 (``MODEL.FPN_PLUGINS``), with the
    package's own initialisation in both.

    Args:
        backbone: ``{"type": name in BACKBONES, **arguments}``.
        neck: ``{"type": name in NECKS, **arguments}`` without ``in_channels``, or a list of them.
        out_positions: which of the neck's maps the heads get, ascending; ``None`` is all.
        init_cfg: mmengine's.

    State dict: ``backbone.*`` and ``neck.*``.

    Raises:
        ValueError: unknown types, a neck that does not fit, or positions that are not of its maps, ascending.
    """

    def __init__(
        self,
        backbone: Cfg,
        neck: Cfg | Sequence[Cfg],
        out_positions: Sequence[int] | None = None,
        init_cfg: Cfg | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = backbones.build_backbone(backbone)
        self.neck = build_neck(neck, self.backbone.feature_specs)
        specs = self.neck.out_specs(self.backbone.feature_specs)
        self.out_positions = tuple(range(len(specs)) if out_positions is None else out_positions)
        chosen = sorted(set(self.out_positions) & set(range(len(specs))))
        if not chosen or chosen != list(self.out_positions):
            raise ValueError(
                f"out_positions={list(self.out_positions)} must be one or more of 0..{len(specs) - 1}, ascending"
            )
        self.feature_specs = tuple(specs[position] for position in self.out_positions)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to the chosen maps, high to low resolution."""
        maps = self.neck(self.backbone(x))
        return tuple(maps[position] for position in self.out_positions)
