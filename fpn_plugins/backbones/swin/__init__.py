"""Swin: the backbone and its parts."""

from .swin import Swin

__all__ = ["Swin"]
