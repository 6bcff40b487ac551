"""Backbones that are timm's networks."""

from .timm_backbone import TimmBackbone
from .timm_hybrid import TimmHybrid

__all__ = ["TimmBackbone", "TimmHybrid"]
