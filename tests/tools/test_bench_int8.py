"""The comparison of 8-bit integers with float engines: it runs, keeps earlier rows, and its page says what holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_pair import write_pair, write_set

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/benchmarks/int8.py"


@pytest.mark.mmdet
@pytest.mark.timm
def test_every_form_of_a_small_detector_is_measured(tmp_path: Path) -> None:
    config, checkpoint = write_pair(tmp_path / "pair", "mmdet")
    write_set(tmp_path / "set")
    out = tmp_path / "int8"
    out.with_suffix(".json").write_text(json.dumps({"detectors": {"earlier, mmdet": detector({})}}))
    command = ["noise", config, checkpoint, "--root", str(tmp_path / "set"), "--out", str(out)]
    # in a process of its own: one that has loaded what quantizes crashed in a later test, when it started a process
    done = subprocess.run([sys.executable, TOOL, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    detectors = json.loads(out.with_suffix(".json").read_text())["detectors"]
    assert list(detectors) == ["earlier, mmdet", "noise, mmdet"]
    rows = detectors["noise, mmdet"]["rows"]
    assert {"toolbox", "onnxruntime", "OpenVINO", "OpenVINO, INT8", "onnxruntime, INT8"} <= set(rows)
    assert all(row["ratio"] > 0 and set(row["scores"]["bbox"]) >= {"AP", "AP_L"} for row in rows.values())
    assert rows["onnxruntime"]["equal"] == rows["OpenVINO"]["equal"] == 1 and rows["toolbox"]["objects"] >= 10
    assert rows["OpenVINO, INT8"]["equal"] < 1  # it is the quantized file
    assert rows["OpenVINO, INT8"]["bytes"] < rows["OpenVINO"]["bytes"]
    assert "## noise, mmdet" in out.with_suffix(".md").read_text()


def detector(changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A detector's entry of the report, with some values changed, by form."""
    row = {"scores": {"bbox": dict.fromkeys(("AP", "AP50", "AP_S", "AP_M"), 0.5) | {"AP_L": -1.0}}}
    row |= {"seconds": 0.1, "ratio": 0.5, "bytes": 2**20, "equal": 1.0, "objects": 20.0}
    forms = ("toolbox", "onnxruntime", "OpenVINO", "OpenVINO, INT8")
    rows = {form: {**row, **changed.get(form, {})} for form in forms}
    return {"toolbox": "mmdet", "config": "c", "calibrated_on": 128, "images": 9, "rows": rows}


def test_the_page_says_whether_the_goals_are_reached(script: Callable[[str], ModuleType]) -> None:
    page = script("benchmarks/int8_page").page
    about = {"date": "d", "command": "c", "processor": "p", "threads": 1, "versions": {"torch": "2"}}
    scores = dict.fromkeys(("AP", "AP50", "AP_S", "AP_M", "AP_L"), 0.496)
    changed = {"OpenVINO, INT8": {"scores": {"bbox": scores}, "ratio": 0.3}, "OpenVINO": {"equal": 0.99}}
    text = page({**about, "detectors": {"cells, mmdet": detector(changed)}})
    assert "changes AP by boxes -0.40 (goal -0.3: not reached)" in text
    assert "takes 0.30 of the toolbox's time (goal 0.35: reached)" in text
    assert "99.00% of 20 objects per image are equal" in text
    assert "| toolbox | 50.00 | 50.00 | 50.00 | 50.00 | - |  | - | 100 | 0.50 | 1.0 |" in text
    changed["OpenVINO, INT8"] = {"scores": {"bbox": scores | {"AP": 0.497}}, "ratio": 0.36}
    text = page({**about, "detectors": {"cells, mmdet": detector(changed)}})
    assert "(goal -0.3: reached)" in text and "(goal 0.35: not reached)" in text
