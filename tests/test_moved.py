"""Imports that have moved: each error names the replacement, and each replacement exists."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import fpn_plugins
from fpn_plugins.moved import MOVED, REMOVED

ROOT = Path(__file__).resolve().parents[1]


def with_host_marks(old: str) -> object:
    """The old name as a parameter, with the mark of the host that it needs."""
    host = next((host for host in ("mmdet", "detectron2") if f"adapters.{host}" in old), None)
    return pytest.param(old, marks=getattr(pytest.mark, host) if host else ())


@pytest.mark.parametrize("old", map(with_host_marks, MOVED))
def test_an_old_name_raises_an_error_that_names_the_new_one(old: str):
    parent, _, name = f"fpn_plugins.{old}".rpartition(".")
    with pytest.raises(ImportError, match="is now") as error:
        exec(f"from {parent} import {name}", {})
    assert str(error.value).startswith(f"fpn_plugins.{old} is now ")
    assert MOVED[old] in str(error.value)


@pytest.mark.parametrize("old", map(with_host_marks, MOVED))
def test_the_new_name_exists(old: str):
    new = MOVED[old]
    if "/" in new:
        assert (ROOT / new.split(" ")[0]).is_dir()
        return
    parent, _, name = f"fpn_plugins.{new}".rpartition(".")
    module = importlib.import_module(parent)
    assert hasattr(module, name) or importlib.import_module(f"{parent}.{name}")


@pytest.mark.parametrize("old", REMOVED)
def test_a_removed_name_raises_an_error_with_a_remedy(old: str):
    parent, _, name = f"fpn_plugins.{old}".rpartition(".")
    with pytest.raises(ImportError) as error:
        exec(f"from {parent} import {name}", {})
    assert str(error.value) == f"fpn_plugins.{old} was removed; {REMOVED[old]}"


def test_a_name_that_never_existed_gets_pythons_own_error():
    with pytest.raises(ModuleNotFoundError, match="No module named 'fpn_plugins.novelty'"):
        importlib.import_module("fpn_plugins.novelty")
    with pytest.raises(ImportError, match="cannot import name 'novelty' from 'fpn_plugins.weights.checkpoint'"):
        exec("from fpn_plugins.weights.checkpoint import novelty", {})
    assert not hasattr(fpn_plugins, "novelty")
