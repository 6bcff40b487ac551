"""Backbones: image in, tuple of maps out, each with a published `FeatureSpec`."""

from ..moved import explain_moved_attributes
from .base import Backbone
from .build import BACKBONES, build_backbone, register_backbone
from .detectors_resnet import DetectoRSResNet
from .feature_cache import add_feature_cache
from .hybrid import HybridCNNViT
from .image_pyramid import ImagePyramid
from .lora import add_lora, merge_lora
from .multi_depth import MultiDepthViT
from .mvit.mvit import MViT
from .spatial_tuning import SpatialTuningAdapter
from .swin.swin import Swin
from .timm.timm_backbone import TimmBackbone
from .timm.timm_hybrid import TimmHybrid
from .vit.vit import ViT
from .vit_adapter import ViTAdapter

explain_moved_attributes(__name__)

__all__ = [
    "BACKBONES",
    "Backbone",
    "DetectoRSResNet",
    "HybridCNNViT",
    "ImagePyramid",
    "MViT",
    "MultiDepthViT",
    "SpatialTuningAdapter",
    "Swin",
    "TimmBackbone",
    "TimmHybrid",
    "ViT",
    "ViTAdapter",
    "add_feature_cache",
    "add_lora",
    "build_backbone",
    "merge_lora",
    "register_backbone",
]
