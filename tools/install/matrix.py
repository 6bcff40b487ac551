"""Install the package with several versions of Python, PyTorch and the toolboxes, and test each combination.

Each combination gets an environment of its own below ``build/matrix``, which is deleted after its tests. Results are
collected in ``build/matrix/results.json``; ``--write`` publishes them in ``tools/install/matrix.json``,
``docs/compatibility.md`` and the README. A combination that has a result is not repeated, so that a call goes on where
the last one stopped.

Example:
    python tools/install/matrix.py
    python tools/install/matrix.py --row torch-2.1 --again
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from matrix_environment import SHOWN, Environment, Unavailable
from matrix_rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "tools" / "install" / "matrix.json"
RESULTS = ROOT / "build" / "matrix" / "results.json"
PAGE = ROOT / "docs" / "compatibility.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- matrix: begin, written by tools/install/matrix.py -->", "<!-- matrix: end -->"
TEST_SECONDS = 360


def run_row(row: Row, folder: Path, seconds: float, keep: bool) -> dict[str, Any]:
    """Install and test a combination, and return its record."""
    record: dict[str, Any] = {"date": date.today().isoformat(), "machine": platform.platform(), "commit": commit()}
    environment = Environment(row, folder, reuse=keep)
    try:
        environment.install()
        record |= {"versions": environment.versions(), **environment.test(seconds)}
    except (Unavailable, subprocess.TimeoutExpired) as error:
        record["reason"] = str(error)
    if not keep:
        shutil.rmtree(environment.source, ignore_errors=True)
    return record


def read_results() -> dict[str, Any]:
    """Return the results so far, published and of this clone, by row."""
    found: dict[str, Any] = {}
    for file in (PUBLISHED, RESULTS):
        found |= json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def write_results(results: dict[str, Any], publish: bool) -> None:
    """Write the results of this clone, and if asked, the published ones and the tables of pages."""
    text = json.dumps(results, indent=1) + "\n"
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    if publish:
        PUBLISHED.write_text(text, encoding="utf-8")
        write_page(table(results), PAGE)
        write_page(short_table(results), README)


def commit() -> str:
    """Return the commit that is tested; what is not committed is not."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def table(results: dict[str, Any]) -> str:
    """Return the Markdown table of all rows."""
    columns = ("Python", "PyTorch", "torchvision", "mmdet", "mmcv", "mmengine", "Detectron2", "timm", "NumPy")
    lines = [
        f"| {' | '.join(columns)} | passed | failed | skipped | date |",
        "|" + "---|" * len(columns) + "--:|" * 3 + "---|",
    ]
    for row in ROWS:
        result = results.get(row.name)
        if result is None or "reason" in result:
            reason = "not tested yet" if result is None else f"not available: {result['reason']}"
            lines.append(
                f"| {row.python} | {row.title}: {reason} |" + " |" * 10 + f" {(result or {}).get('date', '')} |"
            )
            continue
        versions = [result["versions"].get(key, "") for key in ("python", *SHOWN)]
        counts = [str(result["passed"]), str(len(result["failed"])), str(sum(result["skipped"].values()))]
        lines.append(f"| {' | '.join([*versions, *counts, result['date']])} |")
    return "\n".join(lines)


def short_table(results: dict[str, Any]) -> str:
    """Return the Markdown table of the rows that were tested, for the README."""
    keys = {"Python": "python", "PyTorch": "torch", "mmdet": "mmdet", "mmcv": "mmcv", "Detectron2": "detectron2"}
    lines = [f"| {' | '.join(keys)} | tests passed | date |", "|" + "---|" * len(keys) + "--:|---|"]
    for row in ROWS:
        result = results.get(row.name, {"reason": "not tested yet"})
        if "reason" not in result:
            versions = [result["versions"].get(key, "").split(",")[0] for key in keys.values()]
            total = result["passed"] + len(result["failed"])
            lines.append(f"| {' | '.join(versions)} | {result['passed']} of {total} | {result['date']} |")
    return "\n".join(lines)


def write_page(text: str, page: Path) -> None:
    """Replace the table in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; see --help."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="Install and test the package with several versions of what it uses.")
    text = f"of {', '.join(names)}"
    parser.add_argument("--row", dest="rows", nargs="+", choices=names, default=names, metavar="ROW", help=text)
    parser.add_argument("--again", action="store_true", help="repeat rows that have a result")
    parser.add_argument("--keep", action="store_true", help="keep environments, and use those that were kept")
    parser.add_argument("--write", action="store_true", help="publish: write matrix.json, the page and the README")
    text = "seconds for the tests of a row (360)"
    parser.add_argument("--time-limit", dest="seconds", type=float, default=TEST_SECONDS, help=text)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when no test failed in any row."""
    args = parse_args(argv)
    results = read_results()
    for row in ROWS:
        if row.name not in args.rows or (row.name in results and not args.again):
            continue
        print(f"{row.name}: Python {row.python}; log in build/matrix/{row.name}/log.txt", flush=True)
        result = run_row(row, ROOT / "build" / "matrix" / row.name, args.seconds, args.keep)
        results = {**read_results(), row.name: result}  # of other processes, too
        shown = {key: value for key, value in result.items() if key not in ("machine", "commit")}
        print(json.dumps(shown, indent=2), flush=True)
        results = {row.name: results[row.name] for row in ROWS if row.name in results}
        write_results(results, args.write)
    if args.write:
        write_results(results, publish=True)
    return int(any(result.get("failed") for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
