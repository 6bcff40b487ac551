"""The table of all necks has every neck, and gains over FPN are read from the cards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fpn_plugins import NECKS

DATA = Path(__file__).resolve().parents[2] / "tools/benchmarks/data/neck_comparison.json"


@pytest.fixture
def comparison(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/neck_comparison")


def test_every_neck_has_a_row() -> None:
    rows = json.loads(DATA.read_text(encoding="utf-8"))["rows"]
    own = {name for name, neck in NECKS.items() if neck.__module__.startswith("fpn_plugins.")}
    assert {row["neck"] for row in rows} == own, "run tools/benchmarks/neck_comparison.py"


def test_gains_are_read_from_the_cards(comparison: ModuleType) -> None:
    assert comparison.gains("PAFPN") == [(0.1, "Faster R-CNN R50, 12 epochs (mmdet model zoo)")]
    assert comparison.gains("FPN") == []


def test_measures_necks_with_nested_and_plain_outputs(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x"
    small = ["--size", "64", "64", "--repeats", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(out), "--neck", "PanopticFPN", "SingleScale", *small])
    comparison.main()
    rows = {row["neck"]: row for row in json.loads(out.with_suffix(".json").read_text())["rows"]}
    assert list(rows) == ["FPN", "PanopticFPN", "SingleScale"]
    assert rows["FPN"]["training"]["over_fpn"] == 1
    assert rows["PanopticFPN"]["training"]["over_fpn"] > rows["SingleScale"]["training"]["over_fpn"] > 0
    assert "| [SingleScale](necks.md#singlescale) | 1.11 |" in out.with_suffix(".md").read_text()
