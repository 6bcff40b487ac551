"""A config that lacks its data names ``FPN_PLUGINS_COCO``; the config that a training dumps needs neither."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from fpn_plugins.data import environment_folder, environment_splits, find_panoptic_split

ROOT = Path(__file__).resolve().parents[2]
READERS = ("demo_*", "*_coco_folder", "study_*", "*_overfit")
MMDET, DETECTRON2 = (
    sorted(path for pattern in READERS for path in (ROOT / "configs" / toolbox).glob(pattern))
    for toolbox in ("mmdet", "detectron2")
)
VARIABLE = "FPN_PLUGINS_COCO"


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, no variable, and no data set that an earlier test registered in Detectron2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    if importlib.util.find_spec("detectron2"):
        from detectron2.data import DatasetCatalog

        for name in [name for name in DatasetCatalog if name.startswith(("coco_folder_", "coco_panoptic_folder_"))]:
            monkeypatch.delitem(DatasetCatalog.data, name)
    return tmp_path


def test_the_variable_names_the_folder(tiny_coco: Path, nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_folder() == "data/coco"
    with pytest.raises(FileNotFoundError, match=rf"^{VARIABLE} is not set \(default 'data/coco'\): set it to"):
        environment_splits()
    monkeypatch.setenv(VARIABLE, str(nothing))
    with pytest.raises(FileNotFoundError, match=rf"^{VARIABLE}='{nothing}': set it to"):
        environment_splits(find_panoptic_split)
    monkeypatch.setenv(VARIABLE, str(tiny_coco))
    assert [split.ann_file.name for split in environment_splits()] == [
        "instances_train2017.json",
        "instances_val2017.json",
    ]


@pytest.mark.parametrize("path", [*MMDET, *DETECTRON2], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_config_that_reads_the_variable_names_it(
    path: Path, nothing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(path.parent.name)
    if path.parent.name == "mmdet":
        from fpn_plugins.commands.train import main

        arguments = [str(path)]
    else:
        from fpn_plugins.commands.train_d2 import main

        arguments = ["--config-file", str(path), "OUTPUT_DIR" if path.suffix == ".yaml" else "x=1", str(nothing)]
        arguments = arguments if path.suffix == ".yaml" else arguments[:2]
    monkeypatch.setattr("sys.argv", ["train"])
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 1 and VARIABLE in line, line


@pytest.mark.mmdet
@pytest.mark.parametrize("path", MMDET, ids=lambda path: path.stem)
def test_a_dumped_config_needs_neither_the_data_nor_the_variable(
    path: Path, tiny_coco: Path, nothing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.config import Config

    from fpn_plugins.adapters.hosts import build_detector

    monkeypatch.setenv(VARIABLE, os.path.relpath(tiny_coco))
    cfg = Config.fromfile(str(path))
    cfg.dump(nothing / path.name)
    monkeypatch.delenv(VARIABLE)
    dumped = Config.fromfile(str(nothing / path.name))
    assert dumped.to_dict() == cfg.to_dict()
    assert Path(dumped.test_dataloader.dataset.ann_file).is_absolute()
    monkeypatch.setattr("sys.argv", ["cost"])
    if path.stem in ("demo_retinanet", "retinanet_r50_fpn_coco_folder"):
        assert sum(p.numel() for p in build_detector(str(nothing / path.name)).parameters()) > 1e5
