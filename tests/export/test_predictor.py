"""What is around an exported graph equals the toolbox: resizing, scaling back, pasting masks, merging things and stuff.

The graph itself runs in PyTorch here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from export_detectors import (
    CLASSES,
    build,
    build_detectron2,
    build_mmdet,
    find_something,
    host_module,
    random_images,
)

from fpn_plugins.analysis import agreement
from fpn_plugins.export import describe
from fpn_plugins.inference import ResizeRule
from fpn_plugins.inference.engines import EnginePredictor, Session

LIBRARIES = {"mmdet": "opencv", "detectron2": "pillow"}
both = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in LIBRARIES]


def predictors(toolbox: str, kind: str) -> tuple[Any, EnginePredictor]:
    """The toolbox's predictor, and that of its exportable form."""
    detector = find_something(build(toolbox, kind), toolbox)
    host = host_module(toolbox)
    rule = ResizeRule(97, 150, library=LIBRARIES[toolbox])
    model = host.exportable(detector)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    metadata = describe(model, {index: str(index) for index in range(CLASSES)}, rule)
    return host.Predictor(detector, rule=rule), EnginePredictor(Session(metadata, run, "eager"))


def photograph() -> np.ndarray:
    return random_images(1, (163, 207))[0].permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.mark.parametrize("toolbox", both)
@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_objects_and_masks_are_the_toolboxs(toolbox: str, kind: str) -> None:
    host, engine = predictors(toolbox, kind)
    expected, found = host(photograph()), engine(photograph())
    agreed = agreement([(0, expected, found)])
    assert agreed.total >= 10 and agreed.share == 1
    assert agreed.mask_iou > 0.999 and (found.masks is None) == (kind == "retinanet")


@pytest.mark.parametrize("toolbox", both)
def test_segments_are_the_toolboxs(toolbox: str) -> None:
    host, engine = predictors(toolbox, "panoptic_fpn")
    assert host.is_panoptic and engine.is_panoptic and engine.finds_objects
    assert host.finds_objects == (toolbox == "detectron2")
    expected, found = host.panoptic(photograph()), engine.panoptic(photograph())
    kinds = [sorted((s.label, s.is_thing) for s in one.segments) for one in (expected, found)]
    assert kinds[0] == kinds[1] and {thing for _, thing in kinds[0]} == {True, False}
    classes = [labeled(one) for one in (expected, found)]
    assert (classes[0] == classes[1]).float().mean() > 0.999


def labeled(found: Any) -> torch.Tensor:
    """The class of each pixel."""
    table = torch.zeros(int(found.ids.max()) + 1, dtype=torch.int64)
    for segment in found.segments:
        table[segment.id] = segment.label + 1 if segment.is_thing else -1 - segment.label
    return table[found.ids]


@pytest.mark.parametrize("toolbox", both)
def test_detectors_without_stuff_say_so(toolbox: str) -> None:
    for predict in predictors(toolbox, "retinanet"):
        assert not predict.is_panoptic and predict.finds_objects
        with pytest.raises(ValueError, match="has no semantic head"):
            predict.panoptic(photograph())


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize("toolbox", both)
def test_views_are_merged_by_the_detectors_thresholds(toolbox: str, kind: str) -> None:
    if toolbox == "mmdet":
        detector = build_mmdet(
            kind, lambda model: model.test_cfg.get("rcnn", model.test_cfg).nms.update(iou_threshold=0.37)
        )
    else:
        owner = "RETINANET" if kind == "retinanet" else "ROI_HEADS"
        detector = build_detectron2(kind, (f"MODEL.{owner}.NMS_THRESH_TEST", 0.37))
    host = host_module(toolbox)
    metadata = describe(host.exportable(detector), dict(enumerate("abc")), ResizeRule())
    rule = EnginePredictor(Session(metadata, lambda images: {}, "")).merge_rule
    assert rule == host.Predictor(detector).merge_rule and rule.iou_threshold == 0.37
