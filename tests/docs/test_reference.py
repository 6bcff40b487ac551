"""The reference has every public name, and the navigation every page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from fpn_plugins.commands.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# packages whose `__all__` is public
PUBLIC = (
    "",
    ".necks",
    ".backbones",
    ".weights",
    ".conversion",
    ".zoo",
    ".data",
    ".analysis",
    ".recipes",
    ".export",
    ".visualization",
    ".watching",
)
COMMAND_PAGE = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
RENDERED = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in DOCS.glob("reference/*.md")), re.M)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_rendered(package: str):
    rendered = {name for module in RENDERED for name in vars(importlib.import_module(module)) if name[0] != "_"}
    public = set(importlib.import_module(f"fpn_plugins{package}").__all__)
    assert public <= rendered, sorted(public - rendered)


def test_every_command_is_described():
    described = dict(re.findall(r"^## `([\w-]+)`\n\n::: fpn_plugins\.commands\.(\w+)$", COMMAND_PAGE, re.M))
    assert described == COMMANDS


def test_every_rendered_module_exists_once():
    assert len(RENDERED) == len(set(RENDERED))
    for module in RENDERED:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    pages |= {page.relative_to(DOCS).with_suffix(".md").as_posix() for page in DOCS.rglob("*.ipynb")}
    assert not [page for page in pages if page not in navigation]


def test_llms_txt_links_to_each_guide():
    links = re.findall(r"\]\(([^)]+)\)", (DOCS / "llms.txt").read_text())
    assert links and not [link for link in links if not (DOCS / link).is_file()]
    guides = {
        path.relative_to(DOCS).as_posix() for path in (*DOCS.glob("guides/*.md"), *DOCS.glob("notebooks/*.ipynb"))
    }
    assert guides <= set(links), guides - set(links)


def test_the_decision_page_has_the_costs_of_the_page_of_necks():
    number = r" *([\d.]+) *\|"
    rows = {}
    for page, name in (("choose_a_neck.md", r"(\w+)"), ("necks.md", r"\[(\w+)\]\(#\w+\) \| [^|]+")):
        text = (DOCS / page).read_text(encoding="utf-8")
        rows[page] = {match[1]: match.groups()[1:] for match in re.finditer(rf"^\| {name} \|{number * 3}", text, re.M)}
    chosen, all_necks = rows["choose_a_neck.md"], rows["necks.md"]
    assert len(chosen) == len(all_necks) and chosen.items() <= all_necks.items()
