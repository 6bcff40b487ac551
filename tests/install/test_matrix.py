"""The matrix of combinations: its rows, how results are read, and that the page shows them. Nothing is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("matrix_rows", "matrix_environment", "matrix")
REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_x" name="test_a"/>
<testcase classname="tests.test_x" name="test_b[1]"><failure message="m">text</failure></testcase>
<testcase classname="tests.test_x" name="test_c"><error message="m">text</error></testcase>
<testcase classname="tests.test_x" name="test_d"><skipped message="needs PyTorch 2.6"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, Any]]:
    """The modules of tools/install, loaded from their files."""
    loaded = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "install" / f"{name}.py")
            loaded[name] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, loaded[name])
            spec.loader.exec_module(loaded[name])
        yield loaded


@pytest.fixture
def matrix(modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The main module, with files of its own."""
    found = modules["matrix"]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{found.BEGIN}\nold\n{found.END}\nafter\n")
    readme = tmp_path / "readme.md"
    readme.write_text(page.read_text())
    monkeypatch.setattr(found, "PUBLISHED", tmp_path / "published.json")
    monkeypatch.setattr(found, "RESULTS", tmp_path / "build" / "results.json")
    monkeypatch.setattr(found, "PAGE", page)
    monkeypatch.setattr(found, "README", readme)
    return found


def result(**more: Any) -> dict[str, Any]:
    versions = {"python": "3.10", "torch": "2.1.2"}
    return {"date": "2026-01-01", "versions": versions, "passed": 7, "failed": [], "skipped": {"why": 2}, **more}


def test_rows_are_distinct_and_test_what_exists(modules: dict[str, Any]):
    rows = modules["matrix_rows"].ROWS
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.tests and all((ROOT / path).exists() for path in row.tests)


def test_the_page_shows_the_results(modules: dict[str, Any], tmp_path: Path):
    matrix = modules["matrix"]
    results = json.loads(matrix.PUBLISHED.read_text())
    assert set(results) <= {row.name for row in modules["matrix_rows"].ROWS}
    for page, table in ((matrix.PAGE, matrix.table), (matrix.README, matrix.short_table)):
        text = page.read_text(encoding="utf-8")
        copy = tmp_path / "page.md"
        copy.write_text(text, encoding="utf-8")
        matrix.write_page(table(results), copy)
        assert copy.read_text(encoding="utf-8") == text


def test_outcomes_are_counted(modules: dict[str, Any], tmp_path: Path):
    (tmp_path / "report.xml").write_text(REPORT)
    found = modules["matrix_environment"].read_report(tmp_path / "report.xml")
    assert found["passed"] == 1 and found["skipped"] == {"needs PyTorch 2.6": 1}
    assert found["failed"] == ["tests/test_x::test_b[1]", "tests/test_x::test_c"]


def test_a_row_with_a_result_is_not_repeated(matrix: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    done: list[str] = []

    def run_row(row: Any, folder: Path, seconds: float, keep: bool) -> dict[str, Any]:
        done.append(row.name)
        if row.name == "torch-2.4":
            raise KeyboardInterrupt
        return result() if row.name != "python-3.13" else {"date": "2026-01-01", "reason": "no Python 3.13"}

    monkeypatch.setattr(matrix, "run_row", run_row)
    with pytest.raises(KeyboardInterrupt):
        matrix.main([])
    assert done[-2:] == ["detectron2-0.6", "torch-2.4"]
    assert list(json.loads(matrix.RESULTS.read_text())) == ["torch-2.1", "detectron2-0.6"]
    monkeypatch.setattr(
        matrix, "run_row", lambda row, *more: run_row(row, *more) if row.name != "torch-2.4" else result()
    )
    assert matrix.main([]) == 0
    assert "old" in matrix.PAGE.read_text() and not matrix.PUBLISHED.exists()  # files of the clone only if asked
    assert matrix.main(["--write"]) == 0 and "| 3.10 | 2.1.2 |" in matrix.README.read_text()
    assert matrix.PUBLISHED.read_text() == matrix.RESULTS.read_text()
    assert done.count("torch-2.1") == 1 and len(json.loads(matrix.RESULTS.read_text())) == len(matrix.ROWS)
    page = matrix.PAGE.read_text()
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    assert "| 3.10 | 2.1.2 |" in page and "| 7 | 0 | 2 | 2026-01-01 |" in page
    assert "not available: no Python 3.13" in page
    assert matrix.main(["--row", "torch-2.1", "--again"]) == 0 and done.count("torch-2.1") == 2


def test_a_failed_test_is_an_exit_status(matrix: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matrix, "run_row", lambda *arguments: result(failed=["tests/test_x::test_a"]))
    assert matrix.main(["--row", "torch-2.1"]) == 1


def test_what_cannot_be_installed_is_a_result(modules: dict[str, Any], matrix: Any, tmp_path: Path):
    row = modules["matrix_rows"].Row("x", "an example", "2.0")
    record = matrix.run_row(row, tmp_path / "row", 1.0, False)
    assert record["reason"] == "no Python 2.0 on this machine" and "passed" not in record
    environment = modules["matrix_environment"].Environment(row, tmp_path / "other")
    build = "CalledProcessError: Command returned non-zero exit status 1.\nninja: error: '/tmp/a/b.cpp', missing\n"
    assert modules["matrix_environment"].first_error(f"x\n  {build}error: legacy") == "ninja: error: 'b.cpp', missing"
    with pytest.raises(modules["matrix_environment"].Unavailable, match="ERROR: no such package"):
        environment.must(sys.executable, "-c", "print('x\\nERROR: no such package\\ny'); raise SystemExit(1)")


def test_the_environment_is_not_led_elsewhere(modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = modules["matrix_environment"].Environment(modules["matrix_rows"].ROWS[0], tmp_path / "row")
    environment.must(sys.executable, "-c", "import os; print('found', os.environ.get('PYTHONPATH'))")
    assert "found None" in environment.log.read_text()


def test_help_needs_no_package():
    command = [sys.executable, str(ROOT / "tools" / "install" / "matrix.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
