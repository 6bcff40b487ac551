"""Feature pyramids for MMDetection and Detectron2: one implementation of each module, in plain PyTorch."""

from .backbones import (
    BACKBONES,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    Swin,
    TimmBackbone,
    TimmHybrid,
    ViT,
    build_backbone,
)
from .features import FeatureSpec, SemanticSpec, check_pyramid, level_names
from .necks import (
    BFP,
    CSPPAFPN,
    FPN,
    NASFPN,
    NECKS,
    PAFPN,
    BiFPN,
    ExtraLevels,
    FPNLevel,
    PanopticFPN,
    SemanticMerge,
    SimpleFeaturePyramid,
    SingleScale,
    SSDPyramid,
    build_neck,
)

__version__ = "0.1.0"

__all__ = [
    "BACKBONES",
    "BFP",
    "CSPPAFPN",
    "FPN",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "BiFPN",
    "ExtraLevels",
    "FPNLevel",
    "FeatureSpec",
    "HybridCNNViT",
    "ImagePyramid",
    "MultiDepthViT",
    "PanopticFPN",
    "SSDPyramid",
    "SemanticMerge",
    "SemanticSpec",
    "SimpleFeaturePyramid",
    "SingleScale",
    "Swin",
    "TimmBackbone",
    "TimmHybrid",
    "ViT",
    "build_backbone",
    "build_neck",
    "check_pyramid",
    "level_names",
]
