"""Feature pyramids for MMDetection and Detectron2: one implementation of each module, in plain PyTorch."""

from .backbones import (
    BACKBONES,
    HybridCNNViT,
    ImagePyramid,
    MultiDepthViT,
    MViT,
    Swin,
    TimmBackbone,
    TimmHybrid,
    ViT,
    build_backbone,
)
from .features import FeatureSpec, check_pyramid, level_names
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
    "MViT",
    "MultiDepthViT",
    "SSDPyramid",
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
