"""Texts of data in configs: they are read as they are, whatever they hold."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from fpn_plugins.recipes.quoting import in_docstring, literal, uninterpolated

TEXTS = [
    "plain",
    "a, b",
    'it\'s "q"',
    '"""; raise SystemExit',
    "C:\\new\\x\\Users\\N{x}",
    "{{_base_.classes}}",
    "{{{$HOME:x}}}",
    "{{'$HOME:[^z]*'}}",
    "{{ fileDirname }}",
    "${a.b} \\${c} \\\\${d} ${",
    "%s é漢\n\t",
    "\udcff",
]


@pytest.mark.parametrize("value", [*TEXTS, tuple(TEXTS), ("one",), {"checkpoint": TEXTS[5], "indices": [1, 2]}])
def test_a_literal_is_the_value_and_no_reference(value: Any):
    text = literal(value)
    assert ast.literal_eval(text) == value and "{{" not in text
    assert text.encode("utf-8")


@pytest.mark.parametrize("text", TEXTS)
def test_a_docstring_is_the_text_and_ends_where_it_should(text: str):
    module = ast.parse(f'"""{in_docstring(text)}."""\nrest = 1\n')
    assert ast.get_docstring(module, clean=False) == f"{text}." and len(module.body) == 2
    assert "{{" not in in_docstring(text)


@pytest.mark.parametrize("text", TEXTS)
def test_omegaconf_reads_the_text_alone(text: str):
    omegaconf = pytest.importorskip("omegaconf")
    given = {"checkpoint": text, "indices": [1, 2], "inner": {"names": [text]}}
    found = omegaconf.OmegaConf.create({"value": uninterpolated(given), "again": "${value.checkpoint}"})
    assert omegaconf.OmegaConf.to_container(found, resolve=True) == {"value": given, "again": text}


def test_only_references_change():
    assert literal("{a} {b}") == "'{a} {b}'"
    assert uninterpolated(("${a}", 1)) == ("${a}", 1)  # tuples are for Python alone
    assert not re.search(r"\$", uninterpolated("a"))
