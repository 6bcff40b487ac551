"""Data: a synthetic multi-scale COCO set, a check of annotation files, and statistics of object sizes."""

from .coco_check import check_coco
from .coco_folder import CocoSplit, find_split, read_categories
from .coco_report import CocoReport
from .level_weights import balanced_level_weights, level_weight_report, plot_level_weights
from .panoptic import PanopticSplit, find_panoptic_split
from .statistics import fpn_level, object_sizes, plot_size_statistics, retinanet_level, size_statistics
from .subset import make_coco_subset
from .synthetic import make_synthetic_coco

__all__ = [
    "CocoReport",
    "CocoSplit",
    "PanopticSplit",
    "balanced_level_weights",
    "check_coco",
    "find_panoptic_split",
    "find_split",
    "fpn_level",
    "level_weight_report",
    "make_coco_subset",
    "make_synthetic_coco",
    "object_sizes",
    "plot_level_weights",
    "plot_size_statistics",
    "read_categories",
    "retinanet_level",
    "size_statistics",
]
