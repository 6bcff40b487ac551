"""The script that measures margins: what it runs, what it keeps, and what it flags."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TEST = "tests/necks/test_extra_levels.py::test_convs_read_their_source_and_relu_skips_the_first[input-True]"


@pytest.fixture
def margins(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("benchmarks/margins")


def result(seed: int, used: float, **changes: Any) -> dict[str, Any]:
    entries = [
        {"test": "t.py::one", "dtype": "float64", "used": used},
        {"test": "t.py::two", "dtype": "f", "used": 0.0},
    ]
    common = {"seed": seed, "threads": 1, "instructions": "default", "exit": 0, "seconds": 1.0, "summary": "2 passed"}
    return {**common, "failed": [], "used": entries, **changes}


def test_runs_a_test_and_goes_on_where_it_stopped(
    margins: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    call = [TEST, "--seeds", "1", "--first-seed", "3", "--threads", "1", "--out", str(tmp_path / "margins")]
    assert margins.main([*call, "--instruction", "default"]) == 0
    report = json.loads((tmp_path / "margins.json").read_text())
    (run,) = report["runs"]
    assert (run["seed"], run["threads"], run["instructions"], run["exit"]) == (3, 1, "default", 0)
    assert {(entry["test"], entry["dtype"]) for entry in run["used"]} == {(TEST, "float64")}
    assert "[1/1] seed 3, threads 1, instructions default: 1 passed" in capsys.readouterr().out
    assert TEST in (tmp_path / "margins.md").read_text()
    margins.run = lambda setting, arguments: result(setting.seed, 0.5)
    assert margins.main([*call, "--instruction", "default", "avx2"]) == 1  # 1 / 0.5 is below five
    report = json.loads((tmp_path / "margins.json").read_text())
    assert report["runs"][0] == run and len(report["runs"]) == 2
    with pytest.raises(ValueError, match="choose another --out"):
        margins.main(["tests/necks", "--out", str(tmp_path / "margins")])


def test_the_environment_of_a_run(margins: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    plain, narrow = (margins.RunSetting(7, 2, kind).environment(Path("m")) for kind in ("default", "avx2"))
    assert plain["FPN_PLUGINS_TEST_SEED"] == "7" and plain["OMP_NUM_THREADS"] == "2"
    assert "ATEN_CPU_CAPABILITY" not in plain and narrow["ATEN_CPU_CAPABILITY"] == "avx2"
    assert narrow["ONEDNN_MAX_CPU_ISA"] == "AVX2" and narrow["FPN_PLUGINS_TEST_MARGINS"] == "m"


def test_exact_comparisons_do_not_count_and_the_worst_one_is_kept(margins: ModuleType) -> None:
    entries = [("a", 0.1, False), ("a", 0.3, False), ("b", 0.0, True), ("c", 0.0, False)]
    lines = [json.dumps({"test": t, "dtype": "float64", "used": used, "exact": exact}) for t, used, exact in entries]
    assert margins.worst_uses(lines) == {("a", "float64"): 0.3, ("c", "float64"): 0.0}


def test_the_page_flags_small_margins_and_failures(margins: ModuleType) -> None:
    runs = [result(0, 0.1), result(4, 0.4), result(5, 0.2, exit=1, failed=["t.py::one"])]
    text = margins.page({"arguments": ["t.py"], "hardware": {"processor": "P"}, "runs": runs}, least=5)
    assert "| 2.5 **below** | float64 | `t.py::one` | seed 4, threads 1, instructions default |" in text
    assert "margin below 5: 1 of 2" in text and "| inf | f | `t.py::two` |" in text
    assert "failures: `t.py::one` (seed 5, threads 1, instructions default)" in text


def test_tests_have_to_be_named(margins: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        margins.main(["--out", str(tmp_path / "margins")])
    assert "name at least one test file or folder" in capsys.readouterr().err
