"""The table of exported detectors: what is compared, and how its page shows it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fpn_plugins.inference import Detections, PanopticSegments, Segment

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def detections(boxes: list[list[float]], scores: list[float], labels: list[int], masks: Any = None) -> Detections:
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), masks)


def segments(ids: list[list[int]], *labels: tuple[int, bool]) -> PanopticSegments:
    listed = [Segment(number + 1, label, thing) for number, (label, thing) in enumerate(labels)]
    return PanopticSegments(torch.tensor(ids), listed)


def test_the_page_shows_each_measure(module: Callable[[str], ModuleType]) -> None:
    page = module("engine_page")
    gone = {"toolbox": True, "score": 0.5, "label": 1, "place": 3, "why": "overlap", "iou": 0.5001, "score_gap": 0.1}
    row = {"total": 800, "matched": 799, "pictures": 20, "masks": 400, "equal_masks": 399, "mask_iou": 0.9, "ap": {}}
    row |= {"edge": 2e-6, "unequal": [gone], "milliseconds": [100, 51.2]}
    merged = {"pixels": 0.9999, "logits": 1e-5, "pq": 0.9987}
    names = [f"{kind}, mmdet, openvino, ResNet-18, coco_mini" for kind in ("panoptic_fpn", "mask_rcnn")]
    rows = {names[0]: {"a": {**row, **merged}}, names[1]: {"a": row, "b": {**row, "ap": {"segm": -1e-4}}}}
    about = {"date": "d", "command": "c", "processor": "p", "threads": 1, "versions": {"torch": "2"}}
    about |= {"photos": 20, "sizes": [(96, 160)], "rows": rows}
    text = page.page(about)
    place = "ResNet-18 | COCO | mmdet | openvino"
    assert f"| mask_rcnn | {place} | 40 | 40 | 99.88 % | 99.75 % | 2.0e-06 | 0.010 | 0.51 |" in text
    assert f"| mask_rcnn | {place} | 2 | 2 | 1.0e-04 | 0 | - | 0 | 0 |" in text
    assert f"| panoptic_fpn | {place} | 99.990 % | 1.0e-05 | 0.9987 |" in text
    assert text.index("| mask_rcnn") < text.index("| panoptic_fpn") and "such pixels lie on the threshold" in text
    rows[names[1]]["a"]["edge"] = 0.1
    assert f"not explained by rounding: {names[1]}.**" in page.page(about)


def test_classes_of_pixels_tell_things_from_stuff(module: Callable[[str], ModuleType]) -> None:
    found = PanopticSegments(torch.tensor([[0, 1, 2]]), [Segment(2, 0, True), Segment(1, 0, False)])
    assert module("engine_views").classes(found).tolist() == [[0, -1, 1]]


def test_panoptic_quality_is_one_of_equal_segments_alone(module: Callable[[str], ModuleType]) -> None:
    quality = module("engine_views").panoptic_quality
    one = segments([[1, 1, 1, 2]], (0, True), (0, False))
    assert quality([one], [one]) == quality([], []) == 1
    assert quality([one], [segments([[2, 2, 2, 1]], (0, False), (0, True))]) == 1  # other numbers
    assert quality([one], [segments([[1, 1, 1, 2]], (0, False), (0, True))]) == 0  # classes changed places
    # the thing has IoU 2/3; the stuff, 1/2, does not match
    assert quality([one], [segments([[1, 1, 2, 2]], (0, True), (0, False))]) == pytest.approx(1 / 3)


def test_a_pixel_that_differs_is_measured_by_its_probability(module: Callable[[str], ModuleType]) -> None:
    """Not by the share that it has of a small mask."""
    views, agreement = module("engine_views"), module("engine_agreement")
    probabilities = torch.full((6, 6), 0.9)
    made = []
    for edge in (0.499, 0.502):
        probabilities = probabilities.clone()
        probabilities[2, 3] = edge
        masks = torch.zeros(1, 20, 20, dtype=torch.bool)
        masks[0, 9:15, 4:10] = probabilities >= 0.5
        made.append(views.View(detections([[5.5, 10.2, 9, 14]], [0.7], [0], masks), [probabilities]))
    tally = agreement.Tally(0.5)
    tally.add(*made)
    row = tally.row()
    assert (row["matched"], row["masks"], row["equal_masks"]) == (1, 1, 0)
    assert row["edge"] == pytest.approx(0.002, abs=1e-6) and row["mask_iou"] == pytest.approx(35 / 36)


def test_the_reason_of_an_unequal_object_is_told(module: Callable[[str], ModuleType]) -> None:
    unequal = module("engine_agreement").unequal
    square, half, near = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.001], [0.0, 0.0, 10.0, 9.0]
    far = [50.0, 50.0, 60.0, 60.0]
    one = detections([square, half], [0.9, 0.8], [0, 0])
    other = detections([square, far], [0.9, 0.3], [0, 0])
    first, second = unequal(one, other, [(0, 0)], 0.5)
    assert (first["why"], first["toolbox"], first["place"]) == ("overlap", True, 2)
    assert first["iou"] == pytest.approx(0.5001) and (second["why"], second["toolbox"]) == ("last", False)
    tied = unequal(detections([square], [0.9], [0]), detections([near], [0.90001], [0]), [], 0.5)
    assert [entry["why"] for entry in tied] == ["tie", "tie"]
    alone = unequal(detections([square], [0.9], [0]), detections([far], [0.5], [1]), [], 0.5)
    assert [entry["why"] for entry in alone] == ["unknown", "last"]


def test_average_precision_sees_a_lost_object(module: Callable[[str], ModuleType]) -> None:
    precision = module("engine_agreement").average_precision
    found = detections([[0, 0, 10, 10], [20, 20, 40, 40.0]], [0.9, 0.8], [0, 1]).to_coco(1, [0, 1])
    assert precision(found, found) == {"bbox": pytest.approx(1)}
    assert precision(found, found[:1])["bbox"] == pytest.approx(0.5)


def test_what_the_file_has_is_not_measured_again(
    module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engines, detectors = module("engines"), module("engine_detectors")
    monkeypatch.setattr(engines, "page", lambda report: "page")
    case = detectors.Case("retinanet", "mmdet")
    sizes = {engines._key(size): {"total": 1} for size in engines.SIZES}
    engines.add_rows(tmp_path / "a", {"rows": {case.row("itself"): sizes, "other": {"x": {"total": 2}}}})
    report = {"rows": engines.earlier_rows(tmp_path / "a")}
    monkeypatch.setattr(engines, "build", lambda *args: pytest.fail("measured again"))
    engines.measure_case(argparse.Namespace(engine=["itself"]), case, [], report)
    engines.add_rows(tmp_path / "a", {"rows": {"other": {"y": {"total": 3}}}})
    assert set(engines.earlier_rows(tmp_path / "a")["other"]) == {"x", "y"}


def test_operators_are_looked_up_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnx import TensorProto, helper

    monkeypatch.syspath_prepend(str(FOLDER))
    import onnx_operators

    table = json.loads(onnx_operators.TABLE.read_text())
    assert {"NonMaxSuppression", "RoiAlign", "TopK"} <= set(table["supported"]) and np.all(table["source"])
    for kind, number, code in (("Relu", "FLOAT", None), ("Unique", "FLOAT", 1), ("Clip", "INT64", 1)):
        node = helper.make_node(kind, ["x"], ["y"])
        value = [helper.make_tensor_value_info(name, getattr(TensorProto, number), [1]) for name in "xy"]
        file = tmp_path / f"{kind}.onnx"
        graph, opsets = helper.make_graph([node], "g", value[:1], value[1:]), [helper.make_opsetid("", 18)]
        file.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
        monkeypatch.setattr(sys, "argv", ["onnx_operators.py", str(file)])
        if code is None:
            onnx_operators.main()
            assert "Relu 1" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit) as stop:
                onnx_operators.main()
            wanted = {"Unique": "Unique", "Clip": "Clip of INT64 (has FP32, FP16, BF16)"}[kind]
            assert stop.value.code == code and wanted in capsys.readouterr().err


def test_which_engines_run_at_which_sizes(module: Callable[[str], ModuleType]) -> None:
    runs_at = module("engine_detectors").runs_at
    assert runs_at("retinanet", "mmdet", "onnxruntime", (96, 160)) and runs_at("mask_rcnn", "mmdet", "torch", (96, 160))
    assert [runs_at("retinanet", "mmdet", "torch", size) for size in ((128, 200), (160, 213))] == [False, True]
    assert [runs_at("mask_rcnn", toolbox, "itself", (96, 160)) for toolbox in ("mmdet", "detectron2")] == [False, True]


@pytest.mark.parametrize(
    ("kind", "given", "attributes", "message"),
    [
        ("Squeeze", [("x", None), ("a", None)], {}, "Squeeze by a computed list of axes"),
        ("CumSum", [("x", None), ("a", None)], {}, "CumSum by a computed axis"),
        ("Squeeze", [("x", None), ("a", [0])], {}, None),
        ("MaxPool", [("x", None)], {"kernel_shape": [1], "dilations": [2]}, "MaxPool with dilations"),
        ("Resize", [("x", None)], {"mode": "cubic"}, "Resize with mode='cubic' (has 'nearest', 'linear')"),
        ("Resize", [("x", None)], {"mode": "linear"}, None),
        ("DequantizeLinear", [("x", None), ("s", [1]), ("z", [3])], {}, "DequantizeLinear with a zero point other"),
        ("DequantizeLinear", [("x", None), ("s", [1]), ("z", [0])], {}, None),
        ("TopK", [("x", None), ("k", [4000])], {}, "TopK of 4000 candidates (has fewer than 3840)"),
        ("TopK", [("x", None), ("k", [1000])], {}, None),
    ],
)
def test_restrictions_of_the_table(
    kind: str, given: list[tuple[str, Any]], attributes: dict[str, Any], message: str | None, monkeypatch: Any
) -> None:
    from onnx import helper

    monkeypatch.syspath_prepend(str(FOLDER))
    import onnx_operators

    values = {name: np.array(value) for name, value in given if value is not None}
    node = helper.make_node(kind, [name for name, _ in given], ["y"], **attributes)
    found = "".join(onnx_operators.restrictions(node, values))
    assert found.startswith(message) if message else not found


def test_constants_and_opset_of_a_file(monkeypatch: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    monkeypatch.syspath_prepend(str(FOLDER))
    import onnx_operators

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    axes = numpy_helper.from_array(np.array([0]))
    nodes = [helper.make_node("Constant", [], ["a"], value=axes), helper.make_node("Squeeze", ["x", "a"], ["y"])]
    graph, opsets = helper.make_graph(nodes, "g", values[:1], values[1:]), [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets)
    table = {"Constant": "INT64", "Squeeze": "FP32"}
    assert onnx_operators.obstacles(model, table, 20) == set()
    assert onnx_operators.obstacles(model, table, 21) == {"opset 21 (has 9 to 20)"}
