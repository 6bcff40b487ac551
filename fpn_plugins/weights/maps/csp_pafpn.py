"""CSP-PAFPN: the layout of mmdet's ``YOLOXPAFPN`` and ``CSPNeXtPAFPN`` -> ours.

Ours, with ``i`` in the order in which the modules run::

    reduce_convs.<i>   downsample_convs.<i>   output_convs.<i>
    {top_down,bottom_up}_blocks.<i>.{main_conv,short_conv,final_conv}
    {top_down,bottom_up}_blocks.<i>.blocks.<j>.{conv1,conv2}

each with ``conv.*`` and ``norm.*``; depthwise separable ones put ``depthwise_conv`` or ``pointwise_conv`` before these.
"""

from ..key_map import KeyMap
from .mmcv import conv_modules

_CONVS = {"reduce_layers": "reduce_convs", "downsamples": "downsample_convs", "out_convs": "output_convs"}
_BLOCK_CONVS = ("main_conv", "short_conv", "final_conv", "blocks.<j>.conv1", "blocks.<j>.conv2")


def mmdet() -> KeyMap:
    """Build the table of both classes of mmdet, whose blocks have the same names as ours."""
    places = [(f"{theirs}.<i>", f"{ours}.<i>") for theirs, ours in _CONVS.items()]
    paths = ("top_down_blocks", "bottom_up_blocks")
    places += [(f"{path}.<i>.{part}",) * 2 for path in paths for part in _BLOCK_CONVS]
    separable = ("depthwise_conv", "pointwise_conv")
    places += [(f"{theirs}.{half}", f"{ours}.{half}") for theirs, ours in places for half in separable]
    return conv_modules("mmdet YOLOXPAFPN", places)
