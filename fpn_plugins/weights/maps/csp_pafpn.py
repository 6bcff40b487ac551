"""CSP-PAFPN: the layout of mmdet's ``YOLOXPAFPN`` -> ours.

Ours, with ``i`` in the order in which the modules run::

    reduce_convs.<i>   downsample_convs.<i>   output_convs.<i>
    {top_down,bottom_up}_blocks.<i>.{main_conv,short_conv,final_conv}
    {top_down,bottom_up}_blocks.<i>.blocks.<j>.{conv1,conv2}

each with ``conv.*``, ``norm.*``; depthwise separable ones have ``depthwise_conv`` and ``pointwise_conv`` in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap
from .mmcv import conv_modules

TOP = {"reduce_layers": "reduce_convs", "downsamples": "downsample_convs", "out_convs": "output_convs"}
PARTS = ("main_conv", "short_conv", "final_conv", "blocks.<j>.conv1", "blocks.<j>.conv2")


def mmdet() -> KeyMap:
    """mmdet's ``YOLOXPAFPN``: the blocks have the names that we took over."""
    places = [(f"{theirs}.<i>", f"{ours}.<i>") for theirs, ours in TOP.items()]
    paths = ("top_down_blocks", "bottom_up_blocks")
    places += [(f"{path}.<i>.{part}",) * 2 for path in paths for part in PARTS]
    separable = ("depthwise_conv", "pointwise_conv")
    places += [(f"{theirs}.{half}", f"{ours}.{half}") for theirs, ours in places for half in separable]
    return conv_modules("mmdet YOLOXPAFPN", places)


def csp_pafpn_layouts(keys: Iterable[str]) -> list[KeyMap]:
    """The tables to try for the keys of a CSP-PAFPN."""
    return [mmdet()]
