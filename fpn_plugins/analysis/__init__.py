"""Measurements: COCO average precision of the predictions of either toolbox, and what networks cost."""

from .agreement import Agreement, agreement
from .anchor_reach import AnchorReach, anchor_reach
from .calibration import spread_predictions
from .coco_ap import METRICS, evaluate_predictions
from .cost import count_cost, on_meta
from .peak_memory import fresh_process_peaks, peak_memory
from .pyramids import build_pyramid, neck_cost, pyramid_cost
from .report import ComponentCost, CostReport

__all__ = [
    "METRICS",
    "Agreement",
    "AnchorReach",
    "ComponentCost",
    "CostReport",
    "agreement",
    "anchor_reach",
    "build_pyramid",
    "count_cost",
    "evaluate_predictions",
    "fresh_process_peaks",
    "neck_cost",
    "on_meta",
    "peak_memory",
    "pyramid_cost",
    "spread_predictions",
]
