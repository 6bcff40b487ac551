"""mmcv's ``ConvModule`` -> our ``ConvNormAct``: ``conv.*`` is called the same, the norm by its kind there."""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap

# how ConvModule names its norm layer, by kind (`mmcv/cnn/bricks/norm.py::infer_abbr`)
MMCV_NORMS = ("bn", "gn", "ln", "in", "norm_layer")


def conv_modules(layout: str, places: Iterable[tuple[str, str]]) -> KeyMap:
    """The table of a module that is made of convolutions.

    Args:
        layout: its name, for reports.
        places: where each convolution stands, ``(theirs, ours)``.
    """
    rules = []
    for theirs, ours in places:
        rules += [(f"{theirs}.{norm}.<*>", f"{ours}.norm.<*>") for norm in MMCV_NORMS]
        rules += [(f"{theirs}.conv.<*>", f"{ours}.conv.<*>")]
    return KeyMap(layout, rules)
