"""Data: a synthetic multi-scale COCO set, a check of annotation files, and statistics of object sizes."""

from .coco_check import check_coco
from .coco_folder import CocoSplit, find_split, read_categories
from .coco_report import CocoReport
from .panoptic import PanopticSplit, find_panoptic_split
from .statistics import fpn_level, plot_size_statistics, retinanet_level, size_statistics
from .subset import make_coco_subset
from .synthetic import make_synthetic_coco

__all__ = [
    "CocoReport",
    "CocoSplit",
    "PanopticSplit",
    "check_coco",
    "find_panoptic_split",
    "find_split",
    "fpn_level",
    "make_coco_subset",
    "make_synthetic_coco",
    "plot_size_statistics",
    "read_categories",
    "retinanet_level",
    "size_statistics",
]
