"""MMDetection: our modules under their own names in the scope ``fpn_plugins``, taking mmdet's arguments.

``type='fpn_plugins.FPN'`` in a config finds them; nothing has to be imported.
"""

try:
    import mmcv  # noqa: F401
    import mmdet  # noqa: F401
    import mmengine  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fpn_plugins.adapters.mmdet needs mmengine, mmcv and mmdet ({error}): install them (`make install` does), "
        "and what they need with pip install 'fpn_plugins[mmdet]'"
    ) from error

from .backbones import ImagePyramid, PyramidBackbone, TimmBackbone
from .bfp import BFP
from .bifpn import BiFPN
from .csp_pafpn import CSPPAFPN, YOLOXPAFPN
from .fpn import FPN, PAFPN, SingleScale, SSDPyramid
from .fpn_carafe import FPN_CARAFE
from .nas_fpn import NASFPN

__all__ = [
    "BFP",
    "CSPPAFPN",
    "FPN",
    "FPN_CARAFE",
    "NASFPN",
    "PAFPN",
    "BiFPN",
    "ImagePyramid",
    "PyramidBackbone",
    "SSDPyramid",
    "SingleScale",
    "TimmBackbone",
    "YOLOXPAFPN",
]
