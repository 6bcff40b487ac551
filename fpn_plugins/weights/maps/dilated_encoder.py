"""DilatedEncoder: mmdet's layout -> ours.

Ours, with ``i`` the position of the residual block::

    lateral_conv   output_conv   blocks.<i>.{conv1,conv2,conv3}     each with conv.*, norm.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``DilatedEncoder``, whose first two convolutions and norms have separate names."""
    rules = []
    for theirs, ours in (("lateral", "lateral_conv"), ("fpn", "output_conv")):
        rules += [(f"{theirs}_{part}.<*>", f"{ours}.{part}.<*>") for part in ("conv", "norm")]
    convs = [(f"dilated_encoder_blocks.<i>.conv{k}", f"blocks.<i>.conv{k}") for k in (1, 2, 3)]
    return KeyMap("mmdet DilatedEncoder", [*rules, *conv_modules("", convs).rules])
