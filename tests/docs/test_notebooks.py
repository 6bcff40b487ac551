"""The notebooks run, and print what their committed outputs say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "tools" / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prints_what_it_says(path: Path):
    notebooks = tool("notebooks")
    assert not list(notebooks.differences(read(path), notebooks.execute(path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_complete_and_name_no_folder_of_a_machine(path: Path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    printed = "".join(tool("notebooks").printed(cell) for cell in cells)
    assert printed and not re.search(r"(^|[\s'\"(=])/\w+/", printed), printed


def test_differences_see_words_and_numbers():
    notebooks = tool("notebooks")

    def notebook(text: str, *tags: str) -> Any:
        import nbformat.v4 as v4

        cell = v4.new_code_cell("", outputs=[v4.new_output("stream", text=text)], metadata={"tags": list(tags)})
        return v4.new_notebook(cells=[cell])

    def differ(one: str, other: str, *tags: str) -> bool:
        return bool(list(notebooks.differences(notebook(one, *tags), notebook(other))))

    assert not differ("loss 2.0001", "loss 2.0") and not differ("loss 2.5", "loss 2.0", "varies")
    assert differ("loss 2.5", "loss 2.0") and differ("loss 2.0", "gain 2.0", "varies") and differ("1 2", "1")


def test_the_site_renders_sources_outputs_and_pictures():
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"]},
            {
                "cell_type": "code",
                "source": ["print(1)"],
                "outputs": [{"name": "stdout", "text": ["1\n"]}, {"data": {"image/png": "aGk=", "text/plain": "x"}}],
            },
        ]
    }
    page, pictures = tool("site_hooks").render(notebook, "name")
    assert page.startswith("# Title\n\n[Download") and "```python\nprint(1)\n```" in page and "Output" in page
    assert pictures == {"name_0.png": b"hi"} and "(name_0.png)" in page and "<" not in page


def test_the_site_has_what_llms_txt_links_to(tmp_path: Path):
    tool("site_hooks").on_post_build({"docs_dir": ROOT / "docs", "site_dir": tmp_path})
    links = re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs" / "llms.txt").read_text())
    assert links and not [link for link in links if not (tmp_path / link).is_file()]
