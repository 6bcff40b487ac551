"""Add our keys to Detectron2's config, and define the hook that Detectron2 calls."""

from __future__ import annotations

import copy

from detectron2.config import CfgNode

from .watch_config import DEFAULTS


def add_fpn_plugins_config(cfg: CfgNode) -> None:
    """Add ``MODEL.FPN_PLUGINS``, ``INPUT.FPN_PLUGINS`` and ``WATCH``; call this before ``merge_from_file``."""
    if "FPN_PLUGINS" in cfg.MODEL:
        return
    node = cfg.MODEL.FPN_PLUGINS = CfgNode()
    for part, default in (("BACKBONE", "TimmBackbone"), ("NECK", "FPN")):
        node[part] = CfgNode({"TYPE": default})
        # any key is allowed here; the constructor rejects unknown ones
        node[part].ARGS = CfgNode(new_allowed=True)
    reader = cfg.INPUT.FPN_PLUGINS = CfgNode()
    reader.ENABLED = False  # read images of any number of channels by `PixelMapper`
    reader.MAX_VALUE = None  # value that becomes 255, such as 65535 for 16 bits; None keeps values
    reader.BANDS = []  # channels of the file to read, counted from 0; empty for all
    reader.CHANNELS_FIRST = False  # .npy files hold C H W
    node.LEVEL_WEIGHTS = []  # FPNPluginsRetinaNet: one loss weight per level; empty is Detectron2's own loss
    node.NORMALIZER_MOMENTUM = 0.9  # FPNPluginsRetinaNet: momentum of the running loss normalizer; 0 uses the batch
    node.SQUARE_PAD = 0  # pixels, 0 is off
    node.SIZE_DIVISIBILITY = None  # pixels; None is the stride of the backbone's last map, 0 is off
    node.CHANNELS_LAST = False  # PyramidBackbone of any of our builders
    node.AUTOCAST = None  # "bfloat16" or "float16": PyramidBackbone of any of our builders
    node.COMPILE = False  # PyramidBackbone of any of our builders: through torch.compile, in place
    node.COMPILE_OPTIONS = CfgNode(new_allowed=True)  # of torch.compile, by its own names; read if COMPILE is set
    cfg.WATCH = CfgNode({key.upper(): copy.copy(value) for key, value in DEFAULTS.items()})


def setup_environment() -> None:
    """Add our keys to the config of every script, and register the data set of ``FPN_PLUGINS_COCO`` if it is set.

    Detectron2 calls this for ``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2``; the import registered the
    builders.
    """
    from detectron2.config import defaults

    from .datasets import register_from_environment

    add_fpn_plugins_config(defaults._C)
    register_from_environment()
