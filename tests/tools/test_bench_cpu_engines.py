"""The comparison of a CPU's engines: processes, failures, resumption, and what its page recommends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CASE = {"toolbox": "mmdet", "detector": "mask_rcnn", "size": [800, 1344], "objects": 100, "stock_objects": 100}
CASE |= {"resident": 2**30, "stock_resident": 2**31, "seconds": 0.5, "stock_seconds": 1.0, "rounds": 3}


@pytest.mark.mmdet
def test_rows_are_kept_and_not_measured_again(run_tool: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "cpu"
    command = ["benchmarks/cpu_engines", "--out", out, "--tiny", "--threads", 1, "--engine", "ours"]
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.with_suffix(".json").read_text())
    (row,) = report["rows"]
    assert row["engine"] == "ours" and row["ratio"] > 0 and report["bf16_ratio"] > 0
    assert row["objects"] == row["stock_objects"] == 100 and row["equal"] > 0.9
    assert row["resident"] > 0 and row["stock_resident"] > 0
    page = out.with_suffix(".md").read_text()
    assert "| ours |" in page and "- RetinaNet R50, mmdet: all" in page
    run_tool(*command)  # nothing is left to measure
    assert json.loads(out.with_suffix(".json").read_text())["rows"] == report["rows"]
    out.with_suffix(".json").write_text(json.dumps({**report, "processor": "another"}))
    done = run_tool(*command)
    assert done.returncode == 1 and "its processor 'another' is not" in done.stderr and "--out" in done.stderr


class FakeWorker:
    """Process in which one engine finds nothing, one breaks, and the others take their turns."""

    def __init__(self, toolbox: str, threads: int) -> None:
        self.name = ""

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import torch

        from fpn_plugins.inference import Detections

        if function.__name__ == "seconds":
            return 4.0 if self.name == "stock" else 1.0
        if function.__name__ == "export":
            return arguments[-1].joinpath("detector.onnx").write_text("")
        if function.__name__ == "quantize":
            assert arguments[-1].joinpath("detector.onnx").is_file()
            return arguments[-1].joinpath("int8.xml").write_text("")
        assert function.__name__ == "start", function.__name__
        self.name = arguments[1]
        needed = {"openvino": "detector.onnx", "openvino, int8": "int8.xml"}
        assert self.name not in needed or arguments[-1].joinpath(needed[self.name]).is_file()
        if "compiled" in self.name:
            raise MemoryError("no\nspace | left")
        found = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64))
        return [found], None


def test_an_engine_that_fails_is_a_row(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench, forms = script("benchmarks/cpu_engines"), script("benchmarks/cpu_engine_forms")
    monkeypatch.setattr(bench, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "call", first_as_named_tuple(forms, FakeWorker.call))
    subject = bench.Subject("mmdet", "mask_rcnn", tmp_path / "weights")
    monkeypatch.setattr("sys.argv", ["cpu_engines.py", "--out", str(tmp_path), "--together", "2", "--repeats", "1"])
    names = ["ours", "ours, channels_last, compiled", "openvino, int8", "openvino"]
    rows = list(bench.Case(subject, bench.DetectorSetting((64, 64), 1), bench.parse_args()).rows(names))
    assert [row["engine"] for row in rows] == names
    assert [row.get("ratio") for row in rows] == [0.25, None, 0.25, 0.25] and rows[0]["equal"] == 1
    assert rows[1]["error"] == "MemoryError: no space | left"
    assert "| failed: MemoryError: no space / left | " in bench.page(report_of(rows))
    args, case = bench.parse_args(), ("mmdet", "mask_rcnn", [64, 64])
    assert set(names) <= set(bench.pending(args, list(rows), (*case[:2], [800, 1344]), 0.5))  # another size
    assert names[1] in bench.pending(args, list(rows), case, 0.5)
    assert not {names[0], *names[2:]} & set(bench.pending(args, list(rows), case, 0.5))
    emulated = bench.pending(args, [], case, 1.5)
    assert "ours" in emulated and not [name for name in emulated if "bf16" in name]
    assert "ours" not in bench.pending(args, [], ("mmdet", "vitdet_b", [64, 64]), 0.5)  # ours is the base line


def first_as_named_tuple(forms: ModuleType, call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a fake worker return what a process does."""

    def wrapped(self: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        found = call(self, function, *arguments)
        return forms.First(*found) if isinstance(found, tuple) else found

    return wrapped


def report_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"date": "d", "command": "c", "processor": "p", "threads": 1, "versions": {"torch": "2"}}
    return {**about, "instructions": ["avx2"], "bf16_ratio": 0.5, "rows": rows}


def test_the_page_recommends_what_finds_the_same_objects(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = script("benchmarks/cpu_engine_page")
    page, trained = module.page, tmp_path / "int8.json"
    monkeypatch.setattr(module, "TRAINED", trained)
    shares = {"ours": (0.99, 1), "onnxruntime": (0.7, 0.99), "openvino": (0.4, 0.5)}
    rows = [{**CASE, "engine": name, "ratio": ratio, "equal": equal} for name, (ratio, equal) in shares.items()]
    rows += [{**CASE, "engine": "openvino, int8", "ratio": 0.3, "equal": 0.0}]
    rows += [{**CASE, "engine": "openvino, bf16", "ratio": 0.8, "equal": 0.1}]
    text = page(report_of(rows))
    assert "- Mask R-CNN R50, 800 x 1344, mmdet: on this processor take `onnxruntime`, 0.70 of the time (goal" in text
    assert "0.6: not reached)" in text and "`openvino, bf16`, 0.80, is no faster." in text
    assert "`openvino, int8` takes 0.30 (goal 0.35: reached) and changes the objects: measure its AP." in text
    assert "| openvino | 500 | 0.40 | reached | 1024 | 0.50 | 100 | 50.0% |" in text
    assert "stay with the toolbox's eager mode" in page(report_of([{**rows[0], "ratio": 1.2}]))
    assert "Nothing was measured." in page(report_of([]))
    shares = {"OpenVINO": {"equal": 1.0}, "onnxruntime": {"equal": 0.9}}
    entry = {"toolbox": "mmdet", "config": "demo_mask_rcnn", "rows": shares}
    trained.write_text(json.dumps({"detectors": {"demo, mmdet": entry}}))
    text = page(report_of(rows))
    assert "take `openvino`, 0.40 of the time (goal 0.6: reached). It finds 50% of the objects with random" in text
    assert (
        "weights, and 100.00% of those of a small trained detector" in text
        and "compare them on your pictures" not in text
    )
    entry["toolbox"] = "detectron2"
    trained.write_text(json.dumps({"detectors": {"demo, detectron2": entry}}))
    assert "take `onnxruntime`, 0.70" in page(report_of(rows))


@pytest.mark.parametrize(
    ("toolbox", "order", "first"), [("mmdet", "RGB", 2), ("detectron2", "BGR", 2), ("detectron2", "RGB", 0)]
)
def test_engines_get_the_channels_of_the_toolbox(
    toolbox: str, order: str, first: int, script: Callable[[str], ModuleType]
) -> None:
    """mmdet's detectors get BGR and swap the channels themselves; Detectron2's are fed in their own order."""
    import numpy as np
    import torch

    from fpn_plugins.inference import AnnotatedImage

    rgb = script("benchmarks/cpu_engine_forms").rgb
    pixels = torch.arange(3.0)[:, None, None].expand(3, 4, 5)
    image = AnnotatedImage(pixels, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), np.zeros((0, 4, 5), bool))
    metadata = SimpleNamespace(toolbox=toolbox, input=SimpleNamespace(order=order))
    assert rgb(image, metadata)[0, 0, 0] == first
