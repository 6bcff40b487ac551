"""Pictures: what a pyramid sees, and what a detector finds."""

from .detections import draw_objects, draw_predictions
from .pyramid import draw_pyramid

__all__ = ["draw_objects", "draw_predictions", "draw_pyramid"]
