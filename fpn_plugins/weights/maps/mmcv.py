"""mmcv's ``ConvModule`` -> our ``ConvNormAct``: ``conv.*`` is the same, norms are named by their kind in mmcv."""

from collections.abc import Iterable

from ..key_map import KeyMap

# how ConvModule names its norm layer, by kind (`mmcv/cnn/bricks/norm.py::infer_abbr`)
MMCV_NORMS = ("bn", "gn", "ln", "in", "norm_layer")


def conv_modules(layout: str, places: Iterable[tuple[str, str]]) -> KeyMap:
    """Build the table of a module made of convolutions.

    Args:
        layout: name of the layout, for reports.
        places: ``(theirs, ours)``, the name of each convolution in both layouts.
    """
    rules = []
    for theirs, ours in places:
        rules += [(f"{theirs}.{norm}.<*>", f"{ours}.norm.<*>") for norm in MMCV_NORMS]
        rules += [(f"{theirs}.conv.<*>", f"{ours}.conv.<*>")]
    return KeyMap(layout, rules)
