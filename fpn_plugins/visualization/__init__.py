"""Draw pyramids and detections, and plot costs and object sizes; all of it needs matplotlib."""

from ..moved import explain_moved_attributes
from .anchors import plot_anchor_reach
from .costs import draw_costs
from .detections import annotate_objects, draw_detections, draw_objects, draw_predictions
from .object_sizes import plot_level_weights, plot_size_statistics
from .pyramid import draw_pyramid

explain_moved_attributes(__name__)

__all__ = [
    "annotate_objects",
    "draw_costs",
    "draw_detections",
    "draw_objects",
    "draw_predictions",
    "draw_pyramid",
    "plot_anchor_reach",
    "plot_level_weights",
    "plot_size_statistics",
]
