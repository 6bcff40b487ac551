"""Our keys in Detectron2's config, and the hook that Detectron2 calls."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_fpn_plugins_config(cfg: CfgNode) -> None:
    """Add ``MODEL.FPN_PLUGINS`` to a config, before ``merge_from_file``.

    Calling it twice changes nothing.
    """
    if "FPN_PLUGINS" in cfg.MODEL:
        return
    node = cfg.MODEL.FPN_PLUGINS = CfgNode()
    for part, default in (("BACKBONE", "TimmBackbone"), ("NECK", "FPN")):
        node[part] = CfgNode({"TYPE": default})
        # any key: they go to the constructor, which rejects what it does not know
        node[part].ARGS = CfgNode(new_allowed=True)
    node.LEVEL_WEIGHTS = []  # of FPNPluginsRetinaNet's losses, one per level; empty is Detectron2's own loss
    node.NORMALIZER_MOMENTUM = 0.9  # of the running mean that FPNPluginsRetinaNet divides its losses by; 0 has no past
    node.SQUARE_PAD = 0  # pixels, 0 is off
    node.SIZE_DIVISIBILITY = None  # pixels; None is the stride of the backbone's last map, 0 is off
    node.CHANNELS_LAST = False  # of PyramidBackbone, by any of our builders
    node.AUTOCAST = None  # "bfloat16" or "float16": of PyramidBackbone, by any of our builders


def setup_environment() -> None:
    """What Detectron2 calls for ``DETECTRON2_ENV_MODULE=fpn_plugins.adapters.detectron2``.

    Adds our keys to the default config, so that ``get_cfg()`` of any script has them (the builders were registered by
    the import), and the data set of ``FPN_PLUGINS_COCO``, where that is set.
    """
    from detectron2.config import defaults

    from .datasets import register_from_environment

    add_fpn_plugins_config(defaults._C)
    register_from_environment()
