"""The comparison of compiled and eager detectors, with a detector that needs no compiler."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from compiled_cases import config_of


@pytest.mark.mmdet
def test_rows_have_times_graphs_and_differences(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpn_plugins.adapters.hosts import build_detector

    bench = script("benchmarks/compiled_detectors")

    def build(toolbox: str, detector: str, compiled: Any = None) -> Any:
        model: Any = build_detector(config_of(tmp_path, "mmdet", "two", False))
        if compiled is not None:
            model.backbone.compile(backend="eager"), model.neck.compile(backend="eager")
        return model

    monkeypatch.setattr(bench, "build", build)
    monkeypatch.setattr(bench, "SIZES", bench.SIZES[:3])
    monkeypatch.setattr(bench, "start_compiler", lambda: None)
    rows = list(bench.measure("mmdet", "RetinaNet, R50", bench.MODES, bench.DetectorSetting((96, 128), 1), 1))
    inference, training = rows
    assert [row["mode"] for row in rows] == list(bench.MODES) and all(min(row["graphs"]) >= 1 for row in rows)
    assert inference["objects"] > 0 and inference["equal_objects"] == 1
    assert training["largest_relative_difference"] < 1e-5
    table = script("benchmarks/compiled_detectors_page").table
    line = table(
        {**inference, "ratio": 0.5, "seconds": {"eager": 1.0, "compiled": 0.5}, "first_pass_seconds": [21, 2]}, 1
    )
    assert "| 0.50 | 21 | 2 | 40 | " in line
    assert "| never |" in table({**inference, "ratio": 1.1}, 1)
    assert "| training \\* |" in table({**training, "clock": "elapsed"}, 1)  # other programs make it longer


def test_again_measures_only_what_is_named(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = script("benchmarks/compiled_detectors")
    names = [(toolbox, "RetinaNet, R50", mode) for toolbox in bench.TOOLBOXES for mode in bench.MODES]
    keys = ("toolbox", "detector", "mode")
    (tmp_path / "out.json").write_text(json.dumps({"rows": [dict(zip(keys, name, strict=True)) for name in names]}))
    measured: list[Any] = []
    monkeypatch.setattr(bench, "measure", lambda *args: measured.append(args[:3]) or ())
    for again, modes in ((False, bench.MODES), (True, bench.MODES), (True, [bench.TRAINING])):
        measured.clear()
        args = Namespace(
            out=tmp_path / "out", again=again, size=(64, 64), batch_size=1, repeats=1, threads=1,
            toolboxes=["mmdet"], detectors=["RetinaNet, R50"], modes=modes,
        )  # fmt: skip
        kept = [tuple(row[key] for key in keys) for row in bench.run(args)["rows"]]
        assert measured == ([("mmdet", "RetinaNet, R50", list(modes))] if again else [])
        assert kept == [name for name in names if not (again and name[0] == "mmdet" and name[2] in modes)]
