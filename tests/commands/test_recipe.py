"""`train` and `train-d2` with a recipe: two iterations of each, the files they write, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fpn_plugins.commands import train, train_d2
from fpn_plugins.commands.recipe import planned_config

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]
ROOT = Path(__file__).resolve().parents[2]
BACKBONE = "mobilenetv3_small_050"
MAINS = {"mmdet": train.main, "detectron2": train_d2.main}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm

    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(timm.create_model(BACKBONE).state_dict(), path)
    return path


def options(root: Path, weights: Path, work_dir: Path) -> list[str]:
    sizes = ["--size", "96", "64", "--backbone", BACKBONE, "--weights", str(weights)]
    return ["--data", str(root), "--recipe", "few", "--epochs", "1", *sizes, "--work-dir", str(work_dir)]


@pytest.mark.parametrize("toolbox", MAINS)
def test_a_training_runs_and_its_config_is_kept(toolbox: str, tiny_coco: Path, weights: Path, tmp_path: Path):
    name = "train" if toolbox == "mmdet" else "train-d2"
    command = [sys.executable, "-m", "fpn_plugins.commands", name, *options(tiny_coco, weights, tmp_path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "FPN_PLUGINS_COCO": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "anchors" in done.stdout and "fitted anchors reach" in done.stdout and "checking the data" in done.stdout
    folder = tmp_path / "recipe"
    assert (folder / "anchors.png").stat().st_size > 1000
    assert "Written for" in (folder / "retinanet_few.py").read_text()
    files = {path.name for path in tmp_path.iterdir()}
    best = {
        "mmdet": lambda name: name.startswith("best_coco_bbox_mAP"),
        "detectron2": lambda name: "model_best" in name,
    }
    found = any(map(best[toolbox], files))
    assert found or "nan" in done.stdout or "-1.000" in done.stdout, files
    shown = [line.split() for line in done.stdout.splitlines() if line.startswith("  fpn-plugins ")]
    assert [line[1] for line in shown] == ["predict", "evaluate", "export"] * found
    assert all(Path(ROOT, path).is_file() for line in shown for path in line[2:4]), shown


def test_nothing_is_written_by_a_dry_run(
    tiny_coco: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    work_dir = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        planned_config("mmdet", [*options(tiny_coco, weights, work_dir), "--dry-run"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and not work_dir.exists()
    assert "RetinaNet" in printed and "P3" in printed or "P2" in printed


@pytest.mark.parametrize("toolbox", MAINS)
def test_a_config_can_be_written_without_a_training(
    toolbox: str, tiny_coco: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        planned_config(toolbox, [*options(tiny_coco, weights, tmp_path), "--config-only"])
    path = tmp_path / "recipe" / "retinanet_few.py"
    assert stop.value.code == 0 and path.is_file() and f"wrote {path}" in capsys.readouterr().out


def test_weights_that_cannot_be_downloaded_leave_no_config(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def download(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("timm.models._builder.load_pretrained", download)
    given = ["--data", str(tiny_coco), "--recipe", "few", "--backbone", BACKBONE, "--work-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        planned_config("mmdet", given)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and "cannot download" in error and "--weights FILE" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"damaged", None])
def test_weights_that_do_not_fit_leave_no_config(
    content: bytes | None, tiny_coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "weights.pth"
    if content is None:
        torch.save({"conv.weight": torch.zeros(3)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        planned_config("mmdet", options(tiny_coco, file, tmp_path / "out"))
    error = capsys.readouterr().err
    assert stop.value.code == 1 and "weights.pth" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("detector", ["retinanet", "mask_rcnn"])
@pytest.mark.parametrize("toolbox", MAINS)
def test_malformed_masks_stop_where_they_are_read(
    toolbox: str,
    detector: str,
    tiny_coco: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    root = shutil.copytree(tiny_coco, tmp_path / "set")
    path = root / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stop:
        planned_config(toolbox, [*options(root, weights, tmp_path / "out"), "--detector", detector, "--config-only"])
    assert stop.value.code == int(toolbox == "detectron2" or detector == "mask_rcnn")
    assert ("malformed segmentation" in capsys.readouterr().err) == bool(stop.value.code)


def test_an_edited_config_is_not_overwritten(
    tiny_coco: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = options(tiny_coco, weights, tmp_path)
    path = planned_config("detectron2", given)
    assert path == planned_config("detectron2", given)  # the same again is fine
    assert path is not None
    with Path(path).open("a") as file:
        file.write("train.max_iter = 7\n")
    with pytest.raises(SystemExit) as stop:
        planned_config("detectron2", given)
    assert stop.value.code == 1 and "exists with other content" in capsys.readouterr().err


@pytest.mark.parametrize("toolbox", MAINS)
def test_a_training_on_faulty_data_can_be_started_again(
    toolbox: str, tiny_coco: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "set"
    shutil.copytree(tiny_coco / "train2017", root / "train")
    content = json.loads((tiny_coco / "annotations/instances_train2017.json").read_text())
    missing = {**content["images"][0], "id": 10**6, "file_name": "missing.png"}
    (root / "annotations").mkdir()
    file = root / "annotations/train.json"
    file.write_text(json.dumps({**content, "images": [*content["images"], missing]}))
    given = [*options(root, weights, tmp_path / "out"), "--val-part", "0.4"]
    with pytest.raises(SystemExit) as stop:
        MAINS[toolbox](given)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and "missing.png" in error and "with which no training began" in error
    file.write_text(json.dumps(content))
    assert planned_config(toolbox, given)


def test_other_command_lines_are_left_alone():
    assert planned_config("mmdet", ["config.py", "--work-dir", "x"]) is None


@pytest.mark.parametrize("toolbox", MAINS)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--data nowhere --recipe small", "nowhere"),
        ("--data COCO --recipe huge", "huge"),
        ("--data COCO", "--recipe"),
        ("--recipe small", "--data"),
        ("config.py --data COCO --recipe small", "config.py"),
        ("--data COCO --recipe small --cfg-options a=1", "a=1"),
        ("--data COCO --recipe small --size 8 8", "size=(8, 8)"),
        ("--data COCO --recipe small --epochs 0", "0"),
        ("--data COCO --recipe small --epochs 1 --minutes 1", "not allowed with"),
        ("--data COCO --recipe small --neck Nonsense", "Nonsense"),
        ("--data COCO --recipe small --backbone nonsense", "nonsense"),
        ("--data COCO --recipe small --weights nowhere.pth", "nowhere.pth"),
        ("--data COCO --recipe small --val-part 0.2", "has a validation split"),
        ("--data COCO --recipe small --bands 0 3", "bands=[0, 3] counts from 0"),
        ("--data COCO --recipe small --max-value 0", "0"),
        ("--data BOXES --recipe small --detector mask_rcnn", "needs a mask"),
    ],
)
def test_bad_input_is_one_message(
    toolbox: str, arguments: str, named: str, tiny_coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = {"COCO": tiny_coco, "BOXES": boxes_alone(tiny_coco, tmp_path)}
    words = [str(folders.get(word, word)) for word in arguments.split()]
    with pytest.raises(SystemExit) as stop:
        MAINS[toolbox](words)
    error = capsys.readouterr().err
    assert stop.value.code in (1, 2) and "error: " in error and named in error and "Traceback" not in error


def boxes_alone(root: Path, folder: Path) -> Path:
    """The data set without masks."""
    target = folder / "boxes"
    for split in ("train2017", "val2017"):
        content = json.loads((root / f"annotations/instances_{split}.json").read_text())
        for entry in content["annotations"]:
            entry.pop("segmentation", None)
        (target / "annotations").mkdir(parents=True, exist_ok=True)
        (target / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        (target / split).mkdir()
    return target
