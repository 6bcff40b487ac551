"""Whole detectors of both toolboxes as modules that other engines can run."""

from .boxes import BoxCoder, GridAnchors
from .dense import DenseDetector, Found, SelectionRule
from .detector import ExportableDetector, ExportSettings
from .pixels import PixelInput

__all__ = [
    "BoxCoder",
    "DenseDetector",
    "ExportSettings",
    "ExportableDetector",
    "Found",
    "GridAnchors",
    "PixelInput",
    "SelectionRule",
]
