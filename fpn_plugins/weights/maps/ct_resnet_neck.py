"""CTResNetNeck: mmdet's layout -> ours, ``deconv_layers.<i>.{conv,norm}.*``."""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``CTResNetNeck``."""
    return conv_modules("mmdet CTResNetNeck", [("deconv_layers.<i>", "deconv_layers.<i>")])
