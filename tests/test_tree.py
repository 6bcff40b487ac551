"""Limits that keep the tree readable: lengths of files and functions, and what lies at the top of each folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION = 250, 400, 40
MAX_TOOLS = 20


def python_files(*folders: str) -> list[Path]:
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts
    )


def long_functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and length of each function whose body, without signature and docstring, is longer than the limit."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if length > MAX_FUNCTION:
                yield node.name, length


@pytest.mark.parametrize(("folders", "limit"), [(("fpn_plugins", "tools"), MAX_FILE), (("tests",), MAX_TEST_FILE)])
def test_no_file_is_longer_than_the_limit(folders: tuple[str, ...], limit: int):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files(*folders)}
    assert {name: length for name, length in lengths.items() if length > limit} == {}


def test_no_function_is_longer_than_the_limit():
    found = {path.name: list(long_functions(path.read_text())) for path in python_files("fpn_plugins", "tools")}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_the_measure_sees_a_long_function():
    body = "    x = 1\n" * (MAX_FUNCTION + 1)
    assert list(long_functions(f'def f():\n    """Do."""\n{body}')) == [("f", MAX_FUNCTION + 1)]
    assert list(long_functions(f'def f(\n    a,\n    b,\n):\n    """Do.\n\n    More.\n    """\n{body[10:]}')) == []


def test_the_top_of_tools_is_command_lines():
    files = [path for path in (ROOT / "tools").iterdir() if path.is_file()]
    assert len(files) <= MAX_TOOLS
    assert [path.name for path in python_files("tools") if path.name.startswith("_")] == []
    folders = {path.name for path in (ROOT / "tools").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {"benchmarks", "docs", "install", "studies", "synthetic"}
