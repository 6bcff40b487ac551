"""Every command has one interface, which a console script can dispatch to: `main(argv)`, and consistent exit codes."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import runpy
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from fpn_plugins import commands
from fpn_plugins.analysis import COCO_METRICS, Agreement
from fpn_plugins.commands import check, compare
from fpn_plugins.commands.__main__ import COMMANDS
from fpn_plugins.commands.common import user_errors
from fpn_plugins.data import find_split
from fpn_plugins.inference import ImagePredictor

TOOLS = Path(__file__).resolve().parents[2] / "tools"
HOSTS = {"train": "mmdet", "test": "mmdet", "train_d2": "detectron2"}
SHARED = {
    "common",
    "detector_options",
    "inputs",
    "progress",
    "recipe",
    "recipe_options",
    "runs",
    "__main__",
}  # no commands
NAMES = sorted({module.name for module in pkgutil.iter_modules(commands.__path__)} - SHARED)


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{commands.__name__}.{name}")


def test_the_dispatcher_knows_every_command() -> None:
    assert sorted(COMMANDS.values()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_main_takes_the_arguments_and_returns_nothing(name: str) -> None:
    signature = inspect.signature(load(name).main)
    (argv,) = signature.parameters.values()
    assert argv.name == "argv" and argv.default is None and signature.return_annotation == "None"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=getattr(pytest.mark, HOSTS[name]) if name in HOSTS else ()) for name in NAMES]
)
def test_help_exits_with_0(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [name])
    with pytest.raises(SystemExit) as stop:
        load(name).main(["--help"])
    assert stop.value.code == 0 and "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_a_script_of_tools_calls_each_command(name: str) -> None:
    scripts = [path for path in TOOLS.glob("*.py") if f"commands.{name} import main" in path.read_text()]
    (script,) = scripts
    assert runpy.run_path(str(script), run_name="imported")["main"] is load(name).main


@pytest.mark.parametrize("error", [ValueError("wrong"), FileNotFoundError("wrong"), ImportError("wrong")])
def test_a_correctable_error_is_one_line_and_exit_code_1(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, user_errors():
        raise error
    assert stop.value.code == 1 and capsys.readouterr().err == "error: wrong\n"


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(KeyError), user_errors():
        raise KeyError("wrong")


def test_the_folder_of_a_report_is_made(tiny_coco: Path, tmp_path: Path) -> None:
    split = find_split(tiny_coco, "val")
    check.main([str(split.ann_file), str(split.image_dir), "--json", str(tmp_path / "new" / "sizes.json")])
    assert json.loads((tmp_path / "new" / "sizes.json").read_text())["objects"] > 0


def test_nothing_to_compare_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {name: {"bbox": dict.fromkeys(COCO_METRICS, 0.0)} for name in compare.TOOLBOXES}
    with pytest.raises(ValueError, match="neither toolbox detects anything"):
        compare.print_comparison(scores, Agreement())


def test_configs_with_different_sizes_are_not_compared() -> None:
    same = {name: ImagePredictor(nn.Identity(), 240, 320) for name in compare.TOOLBOXES}
    compare.check_sizes(same)
    with pytest.raises(ValueError, match=r"mmdet: 240 x 320 px, detectron2: 800 x 1333 px.*give --size"):
        compare.check_sizes({**same, "detectron2": ImagePredictor(nn.Identity())})
