"""Feature pyramids for MMDetection and Detectron2: one implementation of each module, in plain PyTorch."""

from .backbones import (
    BACKBONES,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    SpatialTuningAdapter,
    Swin,
    TimmBackbone,
    TimmHybrid,
    ViT,
    build_backbone,
    register_backbone,
)
from .features import FeatureSpec, SemanticSpec, check_pyramid, level_names
from .moved import explain_moved_attributes, explain_moved_imports
from .necks import (
    BFP,
    CSPPAFPN,
    FPN,
    HRFPN,
    NASFPN,
    NECKS,
    PAFPN,
    SSH,
    BiFPN,
    ChannelMapper,
    DilatedEncoder,
    ExtraLevels,
    MultiScaleProjector,
    Neck,
    NeckCard,
    PanopticFPN,
    SemanticMerge,
    SimpleFeaturePyramid,
    SingleScale,
    SSDPyramid,
    TopDownPyramid,
    build_neck,
    register_neck,
)
from .packaged import config_file
from .pyramid import Pyramid

__version__ = "0.2.0"

explain_moved_imports(__name__)
explain_moved_attributes(__name__)

__all__ = [
    "BACKBONES",
    "BFP",
    "CSPPAFPN",
    "FPN",
    "HRFPN",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "SSH",
    "BiFPN",
    "ChannelMapper",
    "DilatedEncoder",
    "ExtraLevels",
    "FeatureSpec",
    "HybridCNNViT",
    "ImagePyramid",
    "MViT",
    "MultiDepthViT",
    "MultiScaleProjector",
    "Neck",
    "NeckCard",
    "PanopticFPN",
    "Pyramid",
    "SSDPyramid",
    "SemanticMerge",
    "SemanticSpec",
    "SimpleFeaturePyramid",
    "SingleScale",
    "SpatialTuningAdapter",
    "Swin",
    "TimmBackbone",
    "TimmHybrid",
    "TopDownPyramid",
    "ViT",
    "build_backbone",
    "build_neck",
    "check_pyramid",
    "config_file",
    "level_names",
    "register_backbone",
    "register_neck",
]
