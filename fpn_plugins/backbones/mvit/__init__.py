"""MViT: the backbone and its parts."""

from .mvit import MViT

__all__ = ["MViT"]
