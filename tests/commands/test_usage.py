"""Usage names the program that was called, and every command takes configs by the same names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from fpn_plugins.commands.__main__ import main
from fpn_plugins.packaged import resolve_config

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2]
RETINANET = {
    "mmdet": "retinanet/retinanet_r50_fpn_1x_coco",
    "detectron2": "COCO-Detection/retinanet_R_50_FPN_1x",
}


@pytest.mark.parametrize("name", ["train", "test", "train-d2"])
def test_a_command_is_named_as_it_was_called(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the parser is a toolbox's; `tests/install/test_wheel.py` covers the others, and the tools."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fpn-plugins"])
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and shown.startswith(f"usage: fpn-plugins {name} ")
    assert (f"fpn-plugins {name} --data FOLDER --recipe few|small|standard" in shown) == (name != "test")


def test_an_interrupted_command_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fpn_plugins.commands.export.main", interrupted)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fpn-plugins"])
    with pytest.raises(SystemExit) as stop:
        main(["export"])
    assert stop.value.code == 130 and capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize("toolbox", RETINANET)
def test_names_of_the_toolboxes_configs(toolbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suffix = ".py" if toolbox == "mmdet" else ".yaml"
    path = Path(resolve_config(f"{toolbox}::{RETINANET[toolbox]}"))
    assert path.is_file() and path.as_posix().endswith(f"{RETINANET[toolbox]}{suffix}")
    assert resolve_config(f"{toolbox}::{RETINANET[toolbox]}{suffix}") == str(path)
    with pytest.raises(FileNotFoundError, match=rf"config '{toolbox}::retinanet_r50': {toolbox} has no config"):
        resolve_config(f"{toolbox}::retinanet_r50")
    with pytest.raises(FileNotFoundError, match=rf"near: .*{RETINANET[toolbox]}"):
        resolve_config(f"{toolbox}::{RETINANET[toolbox][:-1]}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"comes with {toolbox}, which is not installed"):
        resolve_config(f"{toolbox}::{RETINANET[toolbox]}")
    assert resolve_config("a::b") == "a::b" and resolve_config("x.py") == "x.py"


@pytest.mark.parametrize("command", ["train", "test", "train-d2", "cost", "convert", "predict", "show-pyramid"])
@pytest.mark.parametrize("owner", ["toolbox", "fpn_plugins"])
def test_each_command_takes_a_config_by_its_name(
    command: str, owner: str, tiny_coco: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config is found, and what is missing next is the data or the checkpoint; an unknown name is one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fpn-plugins"])
    toolbox = "detectron2" if command == "train-d2" else "mmdet"
    config = (
        f"{toolbox}::{RETINANET[toolbox]}" if owner == "toolbox" else f"fpn_plugins::{toolbox}/retinanet_r50_fpn_12e"
    )
    for name, expected in (
        (config, "" if command == "cost" else "nowhere|annotations"),
        (f"{config}x", "has no config"),
    ):
        arguments = {
            "train": [name],
            "test": [name, "nowhere.pth"],
            "train-d2": ["--config-file", name],
            "cost": [name, "--size", "64", "64"],
            "convert": ["nowhere.pth", "out.pth", "--config", name],
        }.get(command, [name, "nowhere.pth", str(next((tiny_coco / "val2017").iterdir()))])
        code: object = 0
        try:
            main([command, *arguments])
        except SystemExit as stop:
            code = stop.code
        error = capsys.readouterr().err
        assert code == (1 if expected else 0) and "Traceback" not in error, error
        # three read the checkpoint first
        if command not in ("convert", "predict", "show-pyramid") or expected != "has no config":
            lines = [line for line in error.splitlines() if line.startswith("error: ")]
            assert not expected or len(lines) == 1 and any(word in error for word in expected.split("|")), error
