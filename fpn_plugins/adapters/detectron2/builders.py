"""Backbone builders for Detectron2's YAML configs (``MODEL.BACKBONE.NAME``)."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_resnet_backbone

from ...backbones import BACKBONES
from ...checks import boolean, one_of
from ...necks import ExtraLevels
from .backbone import PyramidBackbone

logger = logging.getLogger("detectron2.fpn_plugins")

# extra levels of Detectron2's FPNs: a max-pooled P6 for two-stage detectors, P6 and P7 from C5 for RetinaNet
TWO_STAGE = ExtraLevels(1, "max_pool")
RETINANET = ExtraLevels(2, "conv", source="input", relu=True, bare=True)


def _resnet_fpn(cfg: CfgNode, input_shape: ShapeSpec, extra_levels: ExtraLevels) -> PyramidBackbone:
    neck = {
        "type": "FPN",
        "out_channels": cfg.MODEL.FPN.OUT_CHANNELS,
        "norm": cfg.MODEL.FPN.NORM,
        "fusion": cfg.MODEL.FPN.FUSE_TYPE,
        "extra_levels": extra_levels,
    }
    in_features = cfg.MODEL.FPN.IN_FEATURES
    return PyramidBackbone(build_resnet_backbone(cfg, input_shape), neck, in_features=in_features, **_fast_path(cfg))


def _fast_path(cfg: CfgNode) -> dict[str, Any]:
    """Read how `PyramidBackbone` computes; a config without our keys sets nothing."""
    node = cfg.MODEL.get("FPN_PLUGINS")
    if node is None:
        return {}
    compiled = dict(node.COMPILE_OPTIONS) or True if boolean("MODEL.FPN_PLUGINS.COMPILE", node.COMPILE) else False
    return {"channels_last": node.CHANNELS_LAST, "autocast": node.AUTOCAST, "compile": compiled}


@BACKBONE_REGISTRY.register()
def build_fpn_plugins_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PyramidBackbone:
    """Build Detectron2's ResNet with our FPN: replaces ``build_resnet_fpn_backbone``, same ``MODEL.FPN`` keys."""
    return _resnet_fpn(cfg, input_shape, TWO_STAGE)


@BACKBONE_REGISTRY.register()
def build_fpn_plugins_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PyramidBackbone:
    """Build Detectron2's ResNet with our FPN, P6 and P7: replaces ``build_retinanet_resnet_fpn_backbone``."""
    return _resnet_fpn(cfg, input_shape, RETINANET)


@BACKBONE_REGISTRY.register()
def build_fpn_plugins_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PyramidBackbone:
    """Build any of our backbones with any of our necks, from ``MODEL.FPN_PLUGINS``.

    ``BACKBONE.TYPE`` and ``NECK.TYPE`` name the classes; ``ARGS`` are passed to their constructors, and a misspelled
    one is a ``TypeError``. The neck's ``in_channels`` come from the backbone. ``MODEL.BACKBONE.FREEZE_AT`` and
    ``MODEL.FPN`` are not read: use ``frozen_stages`` and the neck's own arguments.
    """
    node = cfg.MODEL.FPN_PLUGINS
    backbone = _with_channels(_plain(node.BACKBONE), input_shape.channels)
    padding = {"square_pad": node.SQUARE_PAD, "size_divisibility": node.SIZE_DIVISIBILITY}
    pyramid = PyramidBackbone(backbone, _plain(node.NECK), **padding, **_fast_path(cfg))
    _warn_of_other_pixels(cfg, pyramid)
    return pyramid


def check_builders(cfg: CfgNode) -> None:
    """Raise ``ValueError``, with similar names, if a config names a backbone or a detector that is not registered."""
    for key, registry in (("BACKBONE.NAME", BACKBONE_REGISTRY), ("META_ARCHITECTURE", META_ARCH_REGISTRY)):
        name = functools.reduce(lambda node, part: node[part], key.split("."), cfg.MODEL)
        one_of(f"MODEL.{key}", name, [known for known, _ in registry])


def _with_channels(backbone: dict[str, Any], channels: int) -> dict[str, Any]:
    """Pass the number of image channels to the part that reads images, such as an ``ImagePyramid``'s backbone."""
    reads_image = backbone
    while inner := next((reads_image[part] for part in ("backbone", "cnn", "vit") if part in reads_image), None):
        reads_image = inner
    kind = BACKBONES.get(reads_image.get("type", ""))
    if kind is None or "in_chans" in inspect.signature(kind).parameters:  # a user's own class may have it fixed
        reads_image.setdefault("in_chans", channels)
    return backbone


def _warn_of_other_pixels(cfg: CfgNode, pyramid: PyramidBackbone) -> None:
    """Warn if the config's pixels (by default BGR, standard deviation 1) differ from those that the weights expect."""
    if len(cfg.MODEL.PIXEL_MEAN) != 3:  # the statistics of other channels are the data set's
        return
    wanted = {"PIXEL_MEAN": pyramid.pixel_mean, "PIXEL_STD": pyramid.pixel_std}
    same = all(
        len(cfg.MODEL[key]) == len(values)
        and all(abs(a - b) < 0.5 for a, b in zip(cfg.MODEL[key], values, strict=True))
        for key, values in wanted.items()
    )
    if not same or cfg.INPUT.FORMAT != "RGB":
        backbone = pyramid.parts()[0]
        backbone = getattr(backbone, "backbone", backbone)
        logger.warning(
            "the weights of %s expect INPUT.FORMAT RGB, MODEL.PIXEL_MEAN %s, MODEL.PIXEL_STD %s; "
            "the config has %s, %s, %s",
            *(getattr(backbone, "name", None) or type(backbone).__name__, *wanted.values()),
            *(cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD),
        )


def _plain(node: CfgNode) -> dict[str, Any]:
    """Translate ``{TYPE, ARGS}`` to the core's ``{"type": ..., **arguments}``, without yacs types."""

    def convert(value: Any) -> Any:
        return {key: convert(entry) for key, entry in value.items()} if isinstance(value, dict) else value

    return {"type": node.TYPE, **convert(node.ARGS)}
