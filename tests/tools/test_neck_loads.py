"""The table of published weights of necks, for a module that is here and one whose code is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fpn_plugins import HybridEncoder

DATA = Path(__file__).resolve().parents[2] / "tools/benchmarks/data/neck_loads.json"


def test_loads_of_code_that_is_here_and_of_missing_code(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, sources = script("benchmarks/neck_loads"), script("benchmarks/neck_sources")
    missing = sources.encoder("a fork", "no_such_package", "an encoder", sources.OURS)
    here = missing._replace(code="here", build=lambda: HybridEncoder(sources.CHANNELS, **sources.OURS))
    monkeypatch.setattr(bench, "SOURCES", (here, missing))
    monkeypatch.setattr(sys, "argv", ["neck_loads.py", "--out", str(tmp_path / "loads")])
    bench.main()
    loaded, other = json.loads((tmp_path / "loads.json").read_text())["loads"]
    assert loaded["strict"] and loaded["difference"] == 0 and loaded["keys"] > 100
    assert "no_such_package" in other["missing"]
    page = (tmp_path / "loads.md").read_text()
    assert "| here | an encoder | C3-C5 |" in page and "| a fork | an encoder | C3-C5 | | not measured" in page


def test_every_published_module_loads_and_agrees() -> None:
    rows = json.loads(DATA.read_text(encoding="utf-8"))["loads"]
    assert len(rows) >= 12
    for row in rows:
        assert row["strict"] and row["difference"] < (1e-5 if row["code"] == "Mask2Former" else 1e-7), row
