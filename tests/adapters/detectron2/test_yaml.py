"""YAML configs: read as Detectron2 reads them, but nothing in them is executed, through every entry point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

pytestmark = pytest.mark.detectron2
pytest.importorskip("detectron2")

from detectron2 import model_zoo  # noqa: E402
from detectron2.config import get_cfg  # noqa: E402

from fpn_plugins.adapters.detectron2.detector import build  # noqa: E402
from fpn_plugins.adapters.detectron2.yaml import merge_yaml  # noqa: E402
from fpn_plugins.commands import convert, cost, predict, train_d2  # noqa: E402

CONFIGS = Path(model_zoo.get_config_file("Base-RetinaNet.yaml")).parent
PAYLOADS = [
    "!!python/object/apply:os.mkdir ['{}']",
    "!!python/object/new:os.mkdir ['{}']",
    "!!python/object/apply:eval [\"__import__('os').mkdir('{}')\"]",
    "!!python/object/apply:eval ['{}']",
    "!!python/name:os.mkdir",
    "!!python/module:os",
    "!!python/tuple [!!python/object/apply:os.mkdir ['{}']]",
    "!!python/tuple '{}'",
]


def hostile(folder: Path, trace: Path, payload: str = PAYLOADS[0]) -> str:
    file = folder / "hostile.yaml"
    file.write_text(f"MODEL:\n  WEIGHTS: {payload.format(trace)}\nVERSION: 2\n")
    return str(file)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("through", ["itself", "base"])
def test_a_tag_of_python_is_refused_and_not_executed(payload: str, through: str, tmp_path: Path):
    file = hostile(tmp_path, tmp_path / "trace", payload)
    if through == "base":
        (tmp_path / "x.yaml").write_text("_BASE_: hostile.yaml\n")
    with pytest.raises(ValueError, match=r"hostile\.yaml' cannot be read.*python/.*write plain values") as found:
        build(file if through == "itself" else str(tmp_path / "x.yaml"))
    assert "\n" not in str(found.value) and not (tmp_path / "trace").exists()


def weights(folder: Path) -> str:
    torch.save({"model": {"backbone.bottom_up.w": torch.ones(1)}}, folder / "w.pth")
    return str(folder / "w.pth")


COMMANDS: dict[str, Callable[[str, Path], None]] = {
    "cost": lambda file, folder: cost.main([file]),
    "predict": lambda file, folder: predict.main([file, weights(folder), str(folder / "a.png")]),
    "convert": lambda file, folder: convert.main([weights(folder), str(folder / "o.pth"), "--config", file]),
    "train": lambda file, folder: train_d2.main(["--config-file", file]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_it_in_one_line(command: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "a.png").touch()
    with pytest.raises(SystemExit) as stopped:
        COMMANDS[command](hostile(tmp_path, tmp_path / "trace"), tmp_path)
    error = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 1 and "hostile.yaml" in error[-1] and "os.mkdir" in error[-1]
    assert not (tmp_path / "trace").exists() and "Traceback" not in "".join(error)


def test_the_source_config_of_a_conversion_is_read_safely(tmp_path: Path):
    target = "detectron2::COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    with pytest.raises(ValueError, match=r"hostile\.yaml' cannot be read"):
        convert.convert_weights(build(target).state_dict(), target, hostile(tmp_path, tmp_path / "trace"))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_configs_of_detectron2_are_read_as_it_reads_them(path: Path):
    ours, theirs = get_cfg(), get_cfg()
    merge_yaml(ours, str(path))
    theirs.merge_from_file(str(path))
    assert ours == theirs and vars(ours) == vars(theirs)


def test_tuples_that_pyyaml_wrote_are_read(tmp_path: Path):
    text = yaml.dump({"INPUT": {"MIN_SIZE_TRAIN": (640, 672)}, "VERSION": 2})
    assert "!!python/tuple" in text
    (tmp_path / "x.yaml").write_text(text)
    cfg = get_cfg()
    merge_yaml(cfg, str(tmp_path / "x.yaml"))
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672)


def test_a_copy_of_the_anchor_expression_has_its_value(tmp_path: Path):
    shutil.copy(CONFIGS / "Base-RetinaNet.yaml", tmp_path)
    (tmp_path / "x.yaml").write_text("_BASE_: ['Base-RetinaNet.yaml']\nSOLVER: {BASE_LR: 0.5}\n")
    ours, theirs = get_cfg(), get_cfg()
    merge_yaml(ours, str(tmp_path / "x.yaml"))
    theirs.merge_from_file(str(tmp_path / "x.yaml"))
    assert ours == theirs and len(ours.MODEL.ANCHOR_GENERATOR.SIZES) == 5 and ours.SOLVER.BASE_LR == 0.5


def test_a_base_may_be_a_name(tmp_path: Path):
    """A config outside of Detectron2's folder would need the path of the installed package."""
    (tmp_path / "x.yaml").write_text("_BASE_: detectron2::Base-RetinaNet\nSOLVER: {BASE_LR: 0.5}\n")
    found, stock = get_cfg(), get_cfg()
    merge_yaml(found, str(tmp_path / "x.yaml"))
    stock.merge_from_file(str(CONFIGS / "Base-RetinaNet.yaml"), allow_unsafe=True)
    stock.SOLVER.BASE_LR = 0.5
    assert found == stock
    (tmp_path / "x.yaml").write_text("_BASE_: detectron2::Base-RetinaNot\n")
    with pytest.raises(FileNotFoundError, match="no config .Base-RetinaNot"):
        merge_yaml(get_cfg(), str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("_BASE_: x.yaml\n", "includes this one"),
        ("MODEL: &a\n  BACKBONE: *a\n", "contain themselves"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(
                f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "at most",
        ),
        ("[1, 2]\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "cannot be read"),
        ("a: " + "[" * 5000, "cannot be read"),
    ],
)
def test_damaged_and_endless_files_are_errors_that_name_them(text: str, match: str, tmp_path: Path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)x\.yaml.*{match}"):
        merge_yaml(get_cfg(), str(tmp_path / "x.yaml"))
