"""COCO folders: find splits, check annotation files, cut subsets, and measure object sizes."""

from ..moved import explain_moved_attributes
from .coco_folder import CocoSplit, assumed_categories, find_split, read_categories
from .coco_report import CocoReport
from .coco_set import CocoSet, coco_set
from .data_check import DataCheck, Head, check_coco, check_data
from .environment import environment_folder, environment_splits
from .findings import Finding
from .image_headers import SAMPLE
from .level_weights import balanced_level_weights, level_weight_report
from .panoptic import PanopticSplit, find_panoptic_split
from .panoptic_check import PanopticSet
from .pixel_statistics import PixelStatistics, pixel_statistics
from .pixels import PixelReader, read_pixels, to_picture
from .repeated import RepeatedRandomness
from .statistics import fpn_level, object_sizes, retinanet_level, size_statistics
from .subset import make_coco_subset

explain_moved_attributes(__name__)

__all__ = [
    "SAMPLE",
    "CocoReport",
    "CocoSet",
    "CocoSplit",
    "DataCheck",
    "Finding",
    "Head",
    "PanopticSet",
    "PanopticSplit",
    "PixelReader",
    "PixelStatistics",
    "RepeatedRandomness",
    "assumed_categories",
    "balanced_level_weights",
    "check_coco",
    "check_data",
    "coco_set",
    "environment_folder",
    "environment_splits",
    "find_panoptic_split",
    "find_split",
    "fpn_level",
    "level_weight_report",
    "make_coco_subset",
    "object_sizes",
    "pixel_statistics",
    "read_categories",
    "read_pixels",
    "retinanet_level",
    "size_statistics",
    "to_picture",
]
