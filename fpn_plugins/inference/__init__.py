"""Read images and videos, resize them as a config says, represent detections, and load a detector's weights."""

from .augmented import AugmentedPredictor
from .detections import AnnotatedImage, Detections
from .loading import is_computed, load_detector_weights, load_weights, without_wrappers
from .panoptic import PanopticRule, PanopticSegments, Segment, merge_segments
from .pictures import IMAGES, read_image
from .predictor import ImagePredictor
from .resizing import Padding, ResizeRule, resize_shortest
from .settings import InputSettings
from .videos import VIDEOS, VideoInfo, VideoWriter, is_video, read_pictures, video_info, write_video
from .views import MergeRule, View, merge_views

__all__ = [
    "IMAGES",
    "VIDEOS",
    "AnnotatedImage",
    "AugmentedPredictor",
    "Detections",
    "ImagePredictor",
    "InputSettings",
    "MergeRule",
    "Padding",
    "PanopticRule",
    "PanopticSegments",
    "ResizeRule",
    "Segment",
    "VideoInfo",
    "VideoWriter",
    "View",
    "is_computed",
    "is_video",
    "load_detector_weights",
    "load_weights",
    "merge_segments",
    "merge_views",
    "read_image",
    "read_pictures",
    "resize_shortest",
    "video_info",
    "write_video",
    "without_wrappers",
]
