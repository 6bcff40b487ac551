"""The comparison of named ViTs with timm's, at a size too small to say anything about speed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.timm
@pytest.mark.detectron2
def test_parity_and_cost(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = script("benchmarks/foundation_vits")
    monkeypatch.setattr(bench, "GRIDS", ((3, 2),))
    small = ["--family", "vit_tiny_patch16_dinov3_qkvb", "--model", "eva02_tiny_patch14_224", "--images", "56"]
    arguments = ["foundation_vits.py", *small, "--repeats", "1", "--out", str(tmp_path / "vits")]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    report = json.loads((tmp_path / "vits.json").read_text())
    limits = {"float64": 1e-10, "float32": 1e-4}
    assert all(max(row["map"], row["gradient"]) < limits[row["dtype"]] for row in report["parity"])
    assert [row["windowed"] for row in report["parity"]] == [False, True, False, True]
    assert [row["mode"] for row in report["cost"]] == ["inference", "training"]
    assert all(set(row["seconds"]) == set(row["peak_bytes"]) == set(bench.NAMES) for row in report["cost"])
    page = (tmp_path / "vits.md").read_text()
    assert "| `vit_tiny_patch16_dinov3_qkvb` | 3 x 2 |" in page and "| 56 x 56 | training, ms (1 runs) |" in page
