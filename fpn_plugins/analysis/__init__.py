"""Measurements: COCO average precision of the predictions of either toolbox."""

from .coco_ap import METRICS, evaluate_predictions

__all__ = ["METRICS", "evaluate_predictions"]
