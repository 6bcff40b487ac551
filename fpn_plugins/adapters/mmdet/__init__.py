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

from .backbones import (
    CorePyramid,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    PyramidBackbone,
    TimmBackbone,
    TimmHybrid,
    ViT,
)
from .bfp import BFP
from .bifpn import BiFPN
from .csp_pafpn import CSPPAFPN, YOLOXPAFPN
from .fpn import FPN, PAFPN, SingleScale, SSDPyramid, TopDownPyramid
from .fpn_carafe import FPN_CARAFE
from .layer_decay import ViTLayerDecay
from .nas_fpn import NASFPN
from .panoptic_fpn import PanopticFPN, PanopticFPNHead
from .retina_head import RetinaHead
from .simple_pyramid import LN2d, SimpleFeaturePyramid
from .swin import Swin, SwinTransformer

__all__ = [
    "BFP",
    "CSPPAFPN",
    "FPN",
    "FPN_CARAFE",
    "LN2d",
    "NASFPN",
    "PAFPN",
    "BiFPN",
    "CorePyramid",
    "HybridCNNViT",
    "ImagePyramid",
    "MViT",
    "PanopticFPN",
    "PanopticFPNHead",
    "MultiDepthViT",
    "PyramidBackbone",
    "RetinaHead",
    "SSDPyramid",
    "SimpleFeaturePyramid",
    "SingleScale",
    "Swin",
    "SwinTransformer",
    "TimmBackbone",
    "TimmHybrid",
    "TopDownPyramid",
    "ViT",
    "ViTLayerDecay",
    "YOLOXPAFPN",
]
