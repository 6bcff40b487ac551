"""COCO's metrics of detectors that do not find anything yet."""

from __future__ import annotations

from typing import Any

from ...extras import quiet_imports
from ...registry import METRICS

with quiet_imports():  # mmdet warns of metrics whose libraries are missing
    from mmdet.evaluation import CocoMetric as _CocoMetric


@METRICS.register_module()
class CocoMetric(_CocoMetric):
    """mmdet's ``CocoMetric`` with an AP of 0 if there is no detection in the whole set.

    mmdet's then has no AP at all, and mmengine's ``CheckpointHook`` with ``save_best`` ends the training with a
    ``KeyError``: early in a training on few images, no score may reach the detector's threshold. Arguments and all
    other values are those of mmdet's class.
    """

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the metrics; ``bbox_mAP`` and ``segm_mAP`` are there whenever they are computed."""
        found = super().compute_metrics(results)
        for kind in ("bbox", "segm"):
            if kind in self.metrics and not self.format_only:
                found.setdefault(f"{kind}_mAP", 0.0)
        return found
