"""Measure COCO average precision, agreement of detectors, and cost of networks."""

from ..moved import explain_moved_attributes
from .agreement import Agreement, agreement
from .anchor_reach import AnchorReach, anchor_reach
from .calibration import spread_predictions
from .coco_ap import COCO_METRICS, evaluate_predictions
from .cost import count_cost, on_meta
from .peak_memory import peak_memory
from .pyramids import build_pyramid, neck_cost, pyramid_cost
from .report import ComponentCost, CostReport

explain_moved_attributes(__name__)

__all__ = [
    "COCO_METRICS",
    "Agreement",
    "AnchorReach",
    "ComponentCost",
    "CostReport",
    "agreement",
    "anchor_reach",
    "build_pyramid",
    "count_cost",
    "evaluate_predictions",
    "neck_cost",
    "on_meta",
    "peak_memory",
    "pyramid_cost",
    "spread_predictions",
]
