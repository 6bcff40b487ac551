"""ViT: the backbone and its parts."""

from .vit import ViT

__all__ = ["ViT"]
