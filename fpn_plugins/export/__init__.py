"""Whole detectors of both toolboxes as modules that other engines can run."""

from .boxes import BoxCoder, GridAnchors
from .dense import DenseDetector, Found, SelectionRule
from .description import describe
from .detector import ExportableDetector, ExportSettings
from .pixels import PixelInput
from .proposals import ProposalNetwork
from .quantization import export_int8
from .regions import LevelRule, RegionPooler
from .semantic import SemanticLogits
from .stages import BoxStage, MaskStage, RegionDetector, paste_masks
from .writing import check_target, export_detector

__all__ = [
    "BoxCoder",
    "BoxStage",
    "DenseDetector",
    "ExportSettings",
    "ExportableDetector",
    "Found",
    "GridAnchors",
    "LevelRule",
    "MaskStage",
    "PixelInput",
    "ProposalNetwork",
    "RegionDetector",
    "RegionPooler",
    "SelectionRule",
    "SemanticLogits",
    "check_target",
    "describe",
    "export_detector",
    "export_int8",
    "paste_masks",
]
