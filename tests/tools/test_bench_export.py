"""A sample of the table of exports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_sample_of_the_table(run_tool: Callable[..., Any]):
    done = run_tool("benchmarks/export", "SingleScale")
    assert done.returncode == 0, done.stderr[-3000:]
    name, *differences, graphs = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert name == "SingleScale"
    assert len(differences) == 3 and all(float(value) < 1e-4 for value in differences)
    assert int(graphs) <= 4


def test_an_unknown_class_is_an_error(run_tool: Callable[..., Any]):
    done = run_tool("benchmarks/export", "FNP")
    assert done.returncode in (1, 2) and "error: CLASS='FNP'" in done.stderr and "Traceback" not in done.stderr
