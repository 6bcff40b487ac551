"""SSDNeck: mmdet's layout -> ours.

Ours, with ``k`` the number of the added level::

    l2_norm.weight   extra_convs.<k>.0.{conv,norm}.*   extra_convs.<k>.1.{conv,norm}.*

The second convolution, if depthwise separable, has ``depthwise_conv`` or ``pointwise_conv`` before these.
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``SSDNeck``."""
    parts = ("0", "1", "1.depthwise_conv", "1.pointwise_conv")
    places = [(f"extra_layers.<k>.{part}", f"extra_convs.<k>.{part}") for part in parts]
    return KeyMap("mmdet SSDNeck", [*conv_modules("", places).rules, ("l2_norm.weight", "l2_norm.weight")])
