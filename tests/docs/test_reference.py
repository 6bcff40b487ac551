"""The reference has every public name, and the navigation every page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# packages whose `__all__` is public
PUBLIC = ("", ".necks", ".backbones", ".weights", ".conversion", ".zoo", ".data", ".analysis", ".visualization")
RENDERED = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in DOCS.glob("reference/*.md")), re.M)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_rendered(package: str):
    rendered = {name for module in RENDERED for name in vars(importlib.import_module(module)) if name[0] != "_"}
    public = set(importlib.import_module(f"fpn_plugins{package}").__all__)
    assert public <= rendered, sorted(public - rendered)


def test_every_rendered_module_exists_once():
    assert len(RENDERED) == len(set(RENDERED))
    for module in RENDERED:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert not [page for page in pages if page not in navigation]


def test_llms_txt_links_to_pages_that_exist():
    links = re.findall(r"\]\(([^)]+)\)", (DOCS / "llms.txt").read_text())
    assert links and not [link for link in links if not (DOCS / link).is_file()]
