"""What the command lines of the model zoo share."""

from __future__ import annotations

from fpn_plugins.weights.zoo_records import Cost


def count(config: str, size: tuple[int, int]) -> Cost:
    """What inference on one image of ``size`` (height, width in pixels) costs the detector of a config."""
    from _detectors import detector_cost

    report = detector_cost(config, size)
    total = report.total()
    return Cost(total.parameters, total.macs, list(size), list(report.conditions))
