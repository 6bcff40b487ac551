"""A sample of the table of exports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_sample_of_the_table():
    command = [sys.executable, "tools/benchmarks/export.py", "SingleScale"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    name, *differences, graphs = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert name == "SingleScale"
    assert len(differences) == 3 and all(float(value) < 1e-4 for value in differences)
    assert int(graphs) <= 4


def test_an_unknown_class_is_an_error():
    command = [sys.executable, "tools/benchmarks/export.py", "FNP"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (1, 2) and "error: CLASS='FNP'" in done.stderr and "Traceback" not in done.stderr
