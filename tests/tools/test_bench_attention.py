"""The comparison of attentions, at a size too small to say anything about speed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.detectron2
def test_report_has_both_in_both_modes(run_tool: Callable[..., Any], tmp_path: Path):
    out = tmp_path / "made" / "attention"
    done = run_tool("benchmarks/attention", "--out", out, "--tokens", 2, 4, "--images", "--repeats", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(out.with_suffix(".json").read_text())
    rows = report["rows"]
    assert [(row["side"], row["mode"]) for row in rows] == [(s, m) for s in (2, 4) for m in ("inference", "training")]
    for row in rows:
        assert set(row["seconds"]) == set(row["peak_bytes"]) == {"ours", "detectron2"}
        assert (
            row["time_ratio"] > 0 and row["memory_ratio"] == row["peak_bytes"]["ours"] / row["peak_bytes"]["detectron2"]
        )
        assert f"| {row['side']} x {row['side']} | {row['mode']} |" in out.with_suffix(".md").read_text()
    assert set(report["memory_exponents"]) == {"inference", "training"}
    page = out.with_suffix(".md").read_text()
    assert report["processor"] in page
    assert "by `tools/benchmarks/attention.py --tokens 2 4 --images --repeats 1` on" in page
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
