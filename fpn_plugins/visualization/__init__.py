"""Pictures: what a pyramid sees, what a detector finds, and what a network costs."""

from .costs import draw_costs
from .detections import draw_objects, draw_predictions
from .pyramid import draw_pyramid

__all__ = ["draw_costs", "draw_objects", "draw_predictions", "draw_pyramid"]
