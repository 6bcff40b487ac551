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
    own = {name: neck.card for name, neck in NECKS.items() if neck.__module__.startswith("fpn_plugins.")}
    options = {f"{name}, {option}" for name, card in own.items() for option in card.variants}
    assert "FPN, DySample" in options
    assert {row["neck"] for row in rows} == {*own, *options}, "run tools/benchmarks/neck_comparison.py"


def test_gains_are_read_from_the_cards(comparison: ModuleType) -> None:
    assert comparison.gains("PAFPN") == [(0.1, "Faster R-CNN R50, 12 epochs (mmdet model zoo)")]
    assert comparison.gains("FPN") == []
    assert [gain for gain, _ in comparison.gains("FPN, FreqFusion")] == [1.9, 1.7]


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


def test_rows_are_added_under_the_same_conditions(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    small = ["--out", str(out), "--size", "64", "64", "--threads", "1", "--repeats"]
    for rest in (["1", "--neck", "SingleScale"], ["1", "--add", "--neck", "FPN, DySample"]):
        monkeypatch.setattr(sys, "argv", ["x", *small, *rest])
        comparison.main()
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["neck"] for row in rows] == ["FPN", "FPN, DySample", "SingleScale"]
    assert rows[1]["parameters"] > rows[0]["parameters"]
    assert "| [FPN, DySample](necks.md#fpn) |" in out.with_suffix(".md").read_text()
    monkeypatch.setattr(sys, "argv", ["x", *small, "2", "--add", "--neck", "FPN, CARAFE"])
    with pytest.raises(SystemExit):
        comparison.main()
    assert "repeats 1 there, 2 here; measure all necks again" in capsys.readouterr().err
