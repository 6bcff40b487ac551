"""mmcv's ``ConvModule`` -> our ``ConvNormAct``: ``conv.*`` is the same, norms are named by their kind in mmcv."""

from collections.abc import Iterable

from ..key_map import KeyMap

# names of ConvModule's norm layer, by kind (`mmcv/cnn/bricks/norm.py::infer_abbr`)
MMCV_NORMS = ("bn", "gn", "ln", "in", "norm_layer")


def conv_modules(layout: str, places: Iterable[tuple[str, str]]) -> KeyMap:
    """Build the table ``layout`` of a module made of convolutions; ``places`` are pairs of names ``(theirs, ours)``."""
    rules = []
    for theirs, ours in places:
        rules += [(f"{theirs}.{norm}.<*>", f"{ours}.norm.<*>") for norm in MMCV_NORMS]
        rules += [(f"{theirs}.conv.<*>", f"{ours}.conv.<*>")]
    return KeyMap(layout, rules)
