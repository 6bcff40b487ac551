"""Register this package's modules in MMDetection's scope ``fpn_plugins``, with mmdet's arguments.

A config uses them by ``type='fpn_plugins.FPN'`` without any import. Each module that replaces one of mmdet's is a
drop-in: changing its ``type`` is the only change to a config, and mmdet's checkpoints load as they are. ``**more`` of
every neck takes further arguments of the core class under its own names (``gradient_checkpointing=True``); an unknown
one is a ``TypeError``.
"""

try:
    import mmcv.ops  # noqa: F401
    import mmdet  # noqa: F401
    import mmengine  # noqa: F401
except ImportError as error:
    if getattr(error, "name", None) == "mmcv._ext":
        raise ImportError(
            "mmcv is installed without its compiled extension (no module named 'mmcv._ext'): bring in operators that "
            "need no compiler, python -m fpn_plugins.commands.mmcv_operators install"
        ) from error
    raise ImportError(
        f"fpn_plugins.adapters.mmdet needs mmengine, mmcv and mmdet ({error}): install them (`make install` does), "
        "and what they need with pip install 'fpn_plugins[mmdet]'"
    ) from error

from ...moved import explain_moved_attributes
from .backbone_rate import BackboneRate
from .backbones import (
    CorePyramid,
    DetectoRSResNet,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    PyramidBackbone,
    SpatialTuningAdapter,
    TimmBackbone,
    TimmHybrid,
    ViT,
    ViTAdapter,
)
from .bfp import BFP
from .bifpn import BiFPN
from .channel_mapper import ChannelMapper
from .clr_fpn import CLRFPN
from .csp_pafpn import CSPPAFPN, YOLOXPAFPN, CSPNeXtPAFPN
from .ct_resnet_neck import CTResNetNeck
from .dilated_encoder import DilatedEncoder
from .dyhead import DyHead
from .early_stopping import EarlyStoppingHook
from .fpg import FPG
from .fpn import FPN, PAFPN, FPN_DropBlock, SingleScale, SSDPyramid, TopDownPyramid
from .fpn_carafe import FPN_CARAFE
from .hrfpn import HRFPN
from .hybrid_encoder import HybridEncoder
from .layer_decay import ViTLayerDecay
from .loading import SafeCheckpointHook
from .metrics import CocoMetric
from .multi_scale_projector import MultiScaleProjector
from .nas_fcos_fpn import NASFCOS_FPN, NASFCOSFPN
from .nas_fpn import NASFPN
from .panoptic_fpn import PanopticFPN, PanopticFPNHead
from .pixel_decoder import MSDeformAttnPixelDecoder
from .pixels import DetDataPreprocessor, LoadImage
from .repeated_augmentation import RepeatedAugmentation
from .resume import ExactResumeHook
from .retina_head import RetinaHead
from .rfp import RFP
from .sharding import FSDPStrategy
from .simple_pyramid import LN2d, SimpleFeaturePyramid
from .ssd_neck import SSDNeck
from .ssh import SSH
from .swin import Swin, SwinTransformer
from .views import MaskTTAModel
from .watching import PyramidVisualizationHook, ValidationLossHook
from .yolov3_neck import YOLOV3Neck

explain_moved_attributes(__name__)

__all__ = [
    "BFP",
    "BackboneRate",
    "CLRFPN",
    "CSPPAFPN",
    "FPG",
    "CTResNetNeck",
    "FPN",
    "FSDPStrategy",
    "FPN_CARAFE",
    "HRFPN",
    "LN2d",
    "NASFCOSFPN",
    "NASFCOS_FPN",
    "NASFPN",
    "PAFPN",
    "SSH",
    "BiFPN",
    "ChannelMapper",
    "CSPNeXtPAFPN",
    "CocoMetric",
    "CorePyramid",
    "DetDataPreprocessor",
    "DetectoRSResNet",
    "DilatedEncoder",
    "DyHead",
    "EarlyStoppingHook",
    "ExactResumeHook",
    "FPN_DropBlock",
    "HybridCNNViT",
    "HybridEncoder",
    "ImagePyramid",
    "LoadImage",
    "MSDeformAttnPixelDecoder",
    "MaskTTAModel",
    "MViT",
    "PanopticFPN",
    "PanopticFPNHead",
    "MultiDepthViT",
    "MultiScaleProjector",
    "PyramidBackbone",
    "PyramidVisualizationHook",
    "RepeatedAugmentation",
    "RFP",
    "RetinaHead",
    "SafeCheckpointHook",
    "SSDNeck",
    "SSDPyramid",
    "SimpleFeaturePyramid",
    "SingleScale",
    "SpatialTuningAdapter",
    "Swin",
    "SwinTransformer",
    "TimmBackbone",
    "TimmHybrid",
    "TopDownPyramid",
    "ViT",
    "ViTAdapter",
    "ViTLayerDecay",
    "ValidationLossHook",
    "YOLOV3Neck",
    "YOLOXPAFPN",
]
