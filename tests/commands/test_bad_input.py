"""Every command answers every kind of bad input with one line that names it, and without a traceback."""

from __future__ import annotations

import importlib
import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_detector import write_config

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]

LAZY = """
from detectron2.config import LazyCall as L
from torch import nn
model = L(nn.Linear)(in_features=1, out_features=1)
"""
RETINANET = "model = dict(type='mmdet.RetinaNet', backbone=dict(type='mmdet.ResNet', depth={}))"
CONFIGS = {
    # name of a file -> content
    "syntax.py": "model = dict(",
    "raises.py": "model = dict()\nraise KeyError('oops')",
    "empty.py": "",
    "nobase.py": "_base_ = './nowhere.py'",
    "unknown_type.py": "model = dict(type='fpn_plugins.Nonsense')",
    "unknown_argument.py": RETINANET.format("18, nonsense=1"),
    "wrong_value.py": RETINANET.format(77),
    "text.yaml": "MODEL: [",
    "unknown_key.yaml": "MODEL:\n  NONSENSE: 1\n",
    "wrong_kind.yaml": "MODEL: 3\n",
    "unknown_builder.yaml": "MODEL:\n  BACKBONE:\n    NAME: nonsense\n",
    "lazy_syntax.py": LAZY + "x = (",
    "lazy_raises.py": LAZY + "raise RuntimeError('oops')",
    "lazy_no_model.py": "from detectron2.config import LazyCall as L\n",
    "lazy_argument.py": LAZY.replace("out_features", "nonsense"),
    "binary.py": "\0\1\2",
}
# configs whose message names the value
VALUES = {"unknown_type.py": "Nonsense", "unknown_builder.yaml": "nonsense"}
JSONS = {
    "not_json.json": "{",
    "no_categories.json": "{}",
    "list.json": "[1]",
    "deep.json": 100_000 * "[",
    "results.json": '{"coco/bbox_mAP": NaN}',
}


@dataclass
class Case:
    """One call of a command: its arguments, and what the message names; upper-case words stand for files."""

    command: str
    arguments: str
    named: str

    def __str__(self) -> str:
        return f"{self.command} {self.arguments}"


BOTH = ("CONFIG WEIGHTS IMAGE", "predict"), ("CONFIG WEIGHTS IMAGE", "pyramid")
PIXELS = (("--max-value", "0"), ("--max-value", "nan"), ("--bands", "-1"), ("--bands", "x"), ("--num-images", "0"))
SIZES = ("0 0", "-1 5", "x 5", "nan 5", "5.5 8", "99999999999999999999 5")
RUNS = (("train", "CONFIG"), ("test", "CONFIG WEIGHTS"))
CASES = [
    *(
        Case(command, arguments, VALUES.get(config, config))
        for config in CONFIGS
        for command, arguments in {
            "cost": config,
            "convert": f"WEIGHTS out.pth --config {config}",
            "predict": f"{config} WEIGHTS IMAGE",
            "compare": f"--mmdet {config} WEIGHTS --detectron2 {config} WEIGHTS --root COCO",
        }.items()
        if command in ("cost", "convert") or config in ("syntax.py", "text.yaml", "lazy_raises.py")
    ),
    *(Case("train", config, config) for config in ("nowhere.py", "syntax.py", "raises.py", "empty.py", "nobase.py")),
    *(Case("test", f"{config} WEIGHTS", config) for config in ("nowhere.py", "syntax.py", "raises.py", "binary.py")),
    *(
        Case("train_d2", f"--config-file {config}", config)
        for config in (
            "nowhere.yaml",
            "text.yaml",
            "unknown_key.yaml",
            "lazy_syntax.py",
            "lazy_raises.py",
            "lazy_no_model.py",
        )
    ),
    *(Case("cost", f"{name}", name) for name in ("nowhere.py", "mmdet::nowhere.py", "detectron2::no.yaml", "keras::x")),
    *(Case("cost", f"CONFIG --options {option}", option) for option in ("foo", "=1", "modle.type=3")),
    Case("cost", "YAML --options NONSENSE=1", "NONSENSE"),
    Case("cost", "LAZY --options modle.x=1", "modle"),
    Case("cost", "LAZY --options train.max_iter=[", "train.max_iter"),
    Case("cost", "CONFIG --options model.backbone.nonsense=1", "nonsense"),
    Case("convert", "WEIGHTS out.pth --config CONFIG --options foo", "foo"),
    Case("train", "CONFIG --cfg-options foo", "foo"),
    *(Case(command, f"{arguments} --work-dir FILE/x", "FILE") for command, arguments in RUNS),
    Case("test", "CONFIG WEIGHTS --cfg-options a=1 foo", "foo"),
    Case("train_d2", "--config-file YAML FOO 1", "FOO"),
    Case("train_d2", "--config-file YAML FOO", "FOO"),
    Case("train_d2", "--config-file LAZY foo", "foo"),
    *(Case("cost", f"--backbone resnet18 --size {size}", size.split()[0]) for size in SIZES),
    *(
        Case(command, f"{arguments} --size {size}", size.split()[0])
        for arguments, command in BOTH
        for size in SIZES[:3]
    ),
    *(Case(command, f"{arguments} --size 9 5", "9 5") for arguments, command in BOTH),
    *(
        Case(command, f"{arguments} --score {score}", score)
        for arguments, command in BOTH
        for score in ("7", "-1", "nan", "inf", "x")
    ),
    *(
        Case(command, f"{arguments} --annotations {file}", file)
        for arguments, command in BOTH
        for file in ("nowhere.json", *list(JSONS)[:4])
    ),
    Case("predict", "CONFIG WEIGHTS IMAGE --every 0", "0"),
    Case("predict", "CONFIG WEIGHTS nowhere.png", "nowhere.png"),
    Case("predict", "CONFIG WEIGHTS not_json.json", "not_json.json"),
    *(Case("predict", f"CONFIG WEIGHTS {file}", file) for file in ("text.png", "truncated.jpg", "bomb.png")),
    Case("predict", "CONFIG WEIGHTS IMAGE --out FILE/x", "FILE"),
    Case("predict", "nowhere.onnx IMAGE", "nowhere.onnx"),
    Case("pyramid", "CONFIG WEIGHTS IMAGE --out x.jpg", "x.jpg"),
    *(
        Case("export", arguments, named)
        for arguments, named in {
            "CONFIG WEIGHTS out.engine": "out.engine",
            "CONFIG WEIGHTS FILE/out.onnx": "FILE",
            "nowhere.py WEIGHTS out.onnx": "nowhere.py",
            "CONFIG nowhere.pth out.onnx": "nowhere.pth",
            "CONFIG WEIGHTS out.onnx --opset 11": "11",
            "CONFIG WEIGHTS out.onnx --batch-size 0": "0",
            "CONFIG WEIGHTS out.onnx --int8 nowhere": "nowhere",
        }.items()
    ),
    *(
        Case("evaluate", f"{arguments}", named)
        for arguments, named in {
            "CONFIG --root COCO": "CONFIG",
            "CONFIG WEIGHTS --root nowhere": "nowhere",
            "nowhere.onnx --root COCO": "nowhere.onnx",
            "out.onnx --root COCO --engine tensorrt": "tensorrt",
            "CONFIG WEIGHTS --root COCO --num-images 0": "0",
        }.items()
    ),
    *(
        Case("cost", f"--backbone resnet18 --neck FPN --neck-args {pair}", named)
        for pair, named in {"foo": "foo", "foo=1": "foo", "out_channels=abc": "out_channels"}.items()
    ),
    Case("cost", "--backbone resnet18 --neck FPN --neck-args out_channels=0", "out_channels=0"),
    Case("mmcv_operators", "nonsense", "nonsense"),
    Case("train", "LAZY", "LAZY"),
    Case("test", "YAML WEIGHTS", "YAML"),
    Case("train_d2", "--config-file CONFIG", "CONFIG"),
    Case("cost", "--backbone nonsense", "nonsense"),
    Case("cost", "--backbone resnet18 --backbone-args foo=1", "foo"),
    Case("cost", "--backbone resnet18 --neck Nonsense", "Nonsense"),
    Case("cost", "--backbone resnet18 --batch-size 0", "0"),
    Case("cost", "--backbone resnet18 --size 64 64 --plot x.jpg", "x.jpg"),
    Case("cost", "--backbone resnet18 --size 64 64 --json FILE/x.json", "FILE"),
    Case("convert", "WEIGHTS out.onnx --config CONFIG", "out.onnx"),
    Case("convert", "WEIGHTS out --config CONFIG", "out"),
    Case("convert", "WEIGHTS out.pth --config CONFIG --source-config LAZY", "LAZY"),
    Case("convert", "WEIGHTS out.pth --config CONFIG --mask-stage 0", "mask_stage=0"),
    Case("convert", "WEIGHTS out.pth --config CONFIG --mask-stage -1", "-1"),
    Case("convert", "nowhere.pth out.pth --config CONFIG", "nowhere.pth"),
    Case("convert", "WEIGHTS FILE/out.pth --config CONFIG", "FILE"),
    Case("convert", "WEIGHTS out.pth --config CONFIG --options model.data_preprocessor=None", "data_preprocessor"),
    Case("compare", "--mmdet LAZY WEIGHTS --detectron2 CONFIG WEIGHTS --root COCO", "LAZY"),
    Case("compare", "--mmdet CONFIG WEIGHTS --detectron2 CONFIG WEIGHTS --root nowhere", "nowhere"),
    Case("compare", "--mmdet CONFIG WEIGHTS --detectron2 LAZY WEIGHTS --root COCO --num-images 0", "0"),
    *(Case("check", f"{file} COCO", file) for file in ("nowhere.json", *list(JSONS)[:4])),
    Case("check", "--root nowhere", "nowhere"),
    *(Case("level_weights", file, file) for file in ("nowhere.json", *list(JSONS)[:4])),
    *(
        Case("level_weights", f"ANNOTATIONS {option} {value}", value)
        for option, value in {
            "--strides": "0",
            "--octave-base-scale": "-1",
            "--scales-per-octave": "0",
            "--exponent": "-2",
            "--smoothing": "1.5",
            "--size": "9 5",
            "--plot": "x.gif",
        }.items()
    ),
    *(Case("subset", f"COCO out --num-images {number}", number) for number in ("0", "-1", "x", "9999")),
    Case("subset", "nowhere out", "nowhere"),
    Case("subset", "COCO COCO", "COCO"),
    Case("pixels", "nowhere", "nowhere"),
    *(Case("pixels", f"COCO {option} {value}", value) for option, value in PIXELS),
    *(
        Case("publish", f"{arguments} --name tiny --zoo ZOO --data a --schedule b", named)
        for arguments, named in {
            "nowhere.pth": "nowhere.pth",
            "FILE": "FILE",
            "WEIGHTS --count 0 5": "0",
            "WEIGHTS --results nowhere.json --hardware x": "nowhere.json",
            "WEIGHTS --results not_json.json --hardware x": "not_json.json",
            "WEIGHTS --results results.json --hardware x": "results.json",
            "WEIGHTS --out FILE/x": "FILE",
            "WEIGHTS --convert": "detectron2",
        }.items()
    ),
    Case("publish", "WEIGHTS --name ../tiny --zoo ZOO", "../tiny"),
    Case("publish", "WEIGHTS --name tiny --zoo not_json.json --data a --schedule b", "not_json.json"),
]


@pytest.fixture(scope="module")
def files(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Word in the arguments -> path."""
    from tiny_detector import weights_of

    folder = tmp_path_factory.mktemp("bad")
    for name, content in {**CONFIGS, **JSONS, "FILE": "text"}.items():
        (folder / name).write_text(content)
    config = write_config(folder / "mmdet" / "tiny.py")
    (folder / "not_json.json").rename(folder / "mmdet" / "not_json.json")
    (folder / "not_json.json").symlink_to(folder / "mmdet" / "not_json.json")
    torch.save({"state_dict": weights_of(config)}, folder / "weights.pth")
    write_images(folder)
    split = tiny_coco / "annotations"
    return {
        **{name: str(folder / name) for name in (*CONFIGS, *JSONS, "FILE", "text.png", "truncated.jpg", "bomb.png")},
        "CONFIG": str(config),
        "LAZY": str(ROOT / "configs" / "detectron2" / "demo_mask_rcnn.py"),
        "YAML": str(ROOT / "configs" / "detectron2" / "demo_retinanet.yaml"),
        "WEIGHTS": str(folder / "weights.pth"),
        "COCO": str(tiny_coco),
        "ZOO": str(folder / "zoo.yml"),
        "ANNOTATIONS": str(next(split.glob("instances_val*.json"))),
        "IMAGE": str(next((tiny_coco / "val2017").iterdir())),
    }


def write_images(folder: Path) -> None:
    """Write a text, half a JPEG, and a PNG that claims to have 60000 x 60000 pixels."""
    (folder / "text.png").write_text("text")
    Image.effect_noise((64, 64), 50).save(folder / "whole.jpg")
    data = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    Image.new("L", (8, 8)).save(folder / "bomb.png")
    png = bytearray((folder / "bomb.png").read_bytes())
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (folder / "bomb.png").write_bytes(png)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_is_one_line_that_names_it(
    case: Case, files: dict[str, str], tiny_coco: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    monkeypatch.setattr(sys, "argv", [case.command])

    def path(word: str) -> str:
        first, slash, rest = word.partition("/")
        return files.get(first, first) + slash + rest

    arguments = [path(word) for word in case.arguments.split()]
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"fpn_plugins.commands.{case.command}").main(arguments)
    error = re.sub(r"\rfiles: [^\n]*\n?", "", capsys.readouterr().err)  # the progress bar
    lines = [line for line in error.splitlines() if "error: " in line]
    assert stop.value.code in (1, 2) and len(lines) == 1 and "Traceback" not in error, error
    assert files.get(case.named, case.named).split("/")[-1] in error.replace(repr(files), ""), error
    assert error.startswith("usage:") or error.count("\n") == 1 or case.command in ("check", "level_weights"), error
    assert os.listdir(tmp_path) in ([], ["work_dirs"])


def test_the_table_has_every_command() -> None:
    from fpn_plugins.commands.__main__ import COMMANDS

    assert {case.command for case in CASES} == set(COMMANDS.values())


@pytest.mark.parametrize("place", ["fpn_plugins.conversion.detectors.places", "fpn_plugins.analysis.cost.count_cost"])
def test_a_bug_keeps_its_traceback(place: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*unused: Any, **options: Any) -> None:
        raise KeyError("bug")

    module, _, name = place.rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, bug)
    monkeypatch.setattr("fpn_plugins.adapters.hosts.count_cost", bug)
    calls: dict[str, Callable[[], Any]] = {
        "places": lambda: run("convert", files["WEIGHTS"], "out.pth", "--config", files["CONFIG"]),
        "count_cost": lambda: run("cost", files["CONFIG"]),
    }
    with pytest.raises(KeyError, match="bug"):
        calls[name]()


def run(command: str, *arguments: str) -> None:
    importlib.import_module(f"fpn_plugins.commands.{command}").main(list(arguments))


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FPN_PLUGINS_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        run("cost", "nowhere.py")


def test_a_full_disk_is_named(tmp_path: Path, tiny_coco: Path, monkeypatch: Any, capsys: Any) -> None:
    def full(path: Path, *unused: Any, **options: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    annotations = next((tiny_coco / "annotations").glob("instances_val*.json"))
    with pytest.raises(SystemExit):
        run("level_weights", str(annotations), "--json", str(tmp_path / "x.json"))
    assert capsys.readouterr().err == f"error: '{tmp_path / 'x.json'}': No space left on device\n"
    assert json.loads(annotations.read_text()) and list(tmp_path.iterdir()) == []
