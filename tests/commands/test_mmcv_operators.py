"""`mmcv-operators` writes one file, its own, where mmcv has no compiled extension, and never touches another."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import pytest

from fpn_plugins.adapters.mmcv import installation
from fpn_plugins.commands.mmcv_operators import main

COMPILED = f"_ext{EXTENSION_SUFFIXES[0]}"


@pytest.fixture
def mmcv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mmcv with a folder of operators, the first one on the path."""
    folder = tmp_path / "mmcv"
    (folder / "ops").mkdir(parents=True)
    for file in (folder / "__init__.py", folder / "ops" / "__init__.py"):
        file.touch()
    for name in [name for name in sys.modules if name.split(".")[0] == "mmcv"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "mmcv"]:
        del sys.modules[name]


def run(action: str, capsys: pytest.CaptureFixture[str]) -> str:
    main([action])
    return capsys.readouterr().out


def refused(action: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([action])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_install_and_remove(mmcv: Path, capsys: pytest.CaptureFixture[str]):
    assert "`import mmcv.ops` fails" in run("status", capsys)
    assert run("install", capsys) == f"wrote {mmcv / '_ext.py'}\n"
    assert "operators: those of fpn_plugins" in run("status", capsys)
    extension = importlib.import_module("mmcv._ext")
    assert extension.nms.__name__ == "nms" and not hasattr(extension, "__path__")
    run("install", capsys)  # again
    assert run("remove", capsys) == f"removed {mmcv / '_ext.py'}\n"
    assert sorted(path.name for path in mmcv.iterdir() if path.name != "__pycache__") == ["__init__.py", "ops"]
    assert not list(mmcv.glob("__pycache__/_ext*"))
    assert "nothing to remove" in run("remove", capsys)


def test_an_older_file_is_renewed(mmcv: Path, capsys: pytest.CaptureFixture[str]):
    (mmcv / "_ext.py").write_text(f"{installation.MARK}\nfrom fpn_plugins.elsewhere import __getattr__\n")
    assert "another version" in run("status", capsys)
    run("install", capsys)
    assert (mmcv / "_ext.py").read_text() == installation.SHIM


def test_a_compiled_extension_has_precedence(mmcv: Path, capsys: pytest.CaptureFixture[str]):
    run("install", capsys)
    (mmcv / COMPILED).write_text("no library")
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match=COMPILED):
        importlib.import_module("mmcv._ext")
    text = run("status", capsys)
    assert f"compiled extension {COMPILED}, which does not load" in text and "has no effect" in text
    assert "compiled extension, which Python uses" in refused("install", capsys)
    run("remove", capsys)
    assert (mmcv / COMPILED).read_text() == "no library"


def test_an_extension_for_another_python_is_named(mmcv: Path, capsys: pytest.CaptureFixture[str]):
    (mmcv / "_ext.cpython-27-x86_64-linux-gnu.so").touch()
    assert "compiled for another Python" in refused("install", capsys)
    assert "_ext.cpython-27-x86_64-linux-gnu.so was compiled for another" in run("status", capsys)


@pytest.mark.parametrize("action", ["install", "remove"])
def test_a_file_of_somebody_else_stays(mmcv: Path, action: str, capsys: pytest.CaptureFixture[str]):
    (mmcv / "_ext.py").write_text("nms = None\n")
    assert "was not written by fpn_plugins" in refused(action, capsys)
    assert "was not written by fpn_plugins" in run("status", capsys)
    assert (mmcv / "_ext.py").read_text() == "nms = None\n"


def test_an_mmcv_without_operators(mmcv: Path, capsys: pytest.CaptureFixture[str]):
    (mmcv / "ops" / "__init__.py").unlink()
    assert "mmcv-lite" in run("status", capsys)
    assert "has no folder ops" in refused("install", capsys)


def test_a_file_that_outlived_mmcv_is_removed(
    mmcv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    run("install", capsys)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: PathFinder.find_spec(name, [str(mmcv.parent)]))
    for path in (mmcv / "ops" / "__init__.py", mmcv / "__init__.py"):
        path.unlink()
    importlib.invalidate_caches()
    assert "was uninstalled" in run("status", capsys)
    assert "was uninstalled" in refused("install", capsys)
    run("remove", capsys)
    assert not (mmcv / "_ext.py").exists()


@pytest.mark.parametrize("missing", ["mmcv", "torchvision"])
def test_a_missing_library_is_named(
    mmcv: Path, missing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find_spec(name))
    assert "not installed" in refused("install", capsys)
    assert not (mmcv / "_ext.py").exists()


@pytest.mark.parametrize("action", ["install", "remove"])
def test_a_folder_that_cannot_be_written(
    mmcv: Path, action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (mmcv / "_ext.py").write_text(installation.MARK)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", denied)
    monkeypatch.setattr(Path, "unlink", denied)
    assert "_ext.py (Permission denied): run this as the owner" in refused(action, capsys)
    assert (mmcv / "_ext.py").read_text() == installation.MARK


def test_the_file_explains_itself_without_fpn_plugins(mmcv: Path, monkeypatch: pytest.MonkeyPatch):
    installation.install()
    importlib.invalidate_caches()
    monkeypatch.setitem(sys.modules, "fpn_plugins.adapters.mmcv.extension", None)
    with pytest.raises(ImportError, match="takes mmcv's operators from fpn_plugins, which cannot be imported"):
        importlib.import_module("mmcv._ext")
