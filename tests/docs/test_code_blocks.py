"""Every code block of the README and the guides does what it says, as far as that needs no download and no GPU."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fpn_plugins.commands import recipe_options
from fpn_plugins.commands.__main__ import COMMANDS
from fpn_plugins.zoo.index import forget_weights

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *("README.md", "docs/index.md", "docs/getting_started.md", "docs/choose_a_neck.md"),
    *("docs/concepts.md", "docs/extending.md", "docs/guides/*.md"),
)
PROGRAM = re.compile(r"python (?:\$\w+/)?(tools/[\w/]+\.py)|fpn-plugins ([a-z][\w-]*)")
# a block that needs trained weights, or a file of a package of its own (run by tests/tools), is compiled only
NOT_RUN = re.compile("# after publishing|# needs a trained detector|^# my_")


class Block(NamedTuple):
    """Text of a block, and the page and line where it begins."""

    place: str
    text: str


def blocks(language: str) -> list[Any]:
    found = []
    for page in (path for pattern in PAGES for path in sorted(ROOT.glob(pattern))):
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^( *)```{language}\n(.*?)^\1```", text, re.S | re.M):
            body = "\n".join(line.removeprefix(match[1]) for line in match[2].split("\n"))
            place = f"{page.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
            found.append(pytest.param(Block(place, body), id=place))
    return found


def build_mmdet(text: str, folder: Path) -> None:
    """Build the detector of a block that is a config."""
    from mmengine.config import Config

    from fpn_plugins.adapters.mmdet.detector import register_all_modules
    from fpn_plugins.registry import MODELS

    register_all_modules()
    (folder / "block.py").write_text(text)
    model = Config.fromfile(folder / "block.py").model
    forget_weights(model)
    with torch.device("meta"):
        MODELS.build(model)


@pytest.mark.mmdet
@pytest.mark.detectron2
@pytest.mark.timm
@pytest.mark.torchvision
@pytest.mark.parametrize("block", blocks("python"))
def test_python(block: Block, tmp_path: Path, tiny_coco: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    code = compile(block.text, block.place, "exec")
    if re.search("^_base_ =", block.text, re.M):
        build_mmdet(block.text, tmp_path)
    elif not NOT_RUN.search(block.text):
        text = re.sub(r"(pretrained\W+)True", r"\1False", block.text).replace("data/my_set", str(tiny_coco))
        code = compile(text, block.place, "exec")
        exec(code, {"images": torch.rand(1, 3, 64, 96)})


@pytest.mark.detectron2
@pytest.mark.timm
@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml(block: Block, tmp_path: Path):
    from detectron2 import model_zoo

    from fpn_plugins.adapters.detectron2.detector import build

    base = model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    folder = Path(base).parents[1]
    text = block.text if "_BASE_: detectron2::" in block.text else block.text.replace("_BASE_: ", f"_BASE_: {folder}/")
    (tmp_path / "block.yaml").write_text(text)
    model = build(str(tmp_path / "block.yaml"), ("MODEL.FPN_PLUGINS.BACKBONE.ARGS.pretrained=False",))
    assert type(model.backbone).__name__ == "PyramidBackbone"


def programs() -> Iterator[Any]:
    """List each call of a script or command in a bash block, with its arguments."""
    for param in blocks("bash"):
        (block,) = param.values
        for line in block.text.replace("\\\n", " ").split("\n"):
            words = shlex.split(re.sub(r"\$[A-Z_]+", "0", line), comments=True)
            match = PROGRAM.search(line)
            if match and words:
                start = next(i for i, word in enumerate(words) if word in (match[1], "fpn-plugins"))
                rest = words[start + 1 :] if match[1] else words[start + 2 :]
                yield pytest.param(match[1], match[2], rest, id=f"{param.id}: {match[0]}")


def command_module(script: str) -> Any:
    """Return the command that a script in tools/ runs, ``None`` for a script of its own."""
    name = re.search(r"from fpn_plugins\.commands\.(\w+) import main", (ROOT / script).read_text())
    return importlib.import_module(f"fpn_plugins.commands.{name[1]}") if name else None


@pytest.mark.detectron2
@pytest.mark.parametrize(("script", "command", "arguments"), list(programs()))
def test_bash(script: str | None, command: str | None, arguments: list[str]):
    if "--recipe" in arguments:
        recipe_options.parse_args("mmdet", arguments)
        return
    module = command_module(script) if script else importlib.import_module(f"fpn_plugins.commands.{COMMANDS[command]}")
    parse = getattr(module, "parse_args", None)
    if "--help" in arguments or parse is None or "argv" not in inspect.signature(parse).parameters:
        return  # a script of its own, or one with mmdet's parser: it exists
    parse(arguments)


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    used = {
        name for param in blocks("bash") for name in re.findall(r"^(?:\w+=\S+ )*make (\w+)", param.values[0].text, re.M)
    }
    assert used and used <= targets, used - targets


def test_there_are_blocks_of_each_language():
    assert all(len(blocks(language)) >= least for language, least in (("python", 10), ("bash", 8), ("yaml", 1)))
