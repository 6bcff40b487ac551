"""Export a detector by the command, then predict with the file and evaluate it beside the detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_pair import CLASSES, write_pair, write_set

from fpn_plugins.commands import evaluate, export, predict, test
from fpn_plugins.inference.engines import Metadata

pytestmark = [pytest.mark.mmdet, pytest.mark.timm]


def test_export_predict_and_evaluate(tmp_path: Path, capsys: Any) -> None:
    config, checkpoint = write_pair(tmp_path / "pair", "mmdet")
    write_set(tmp_path / "set")
    file = str(tmp_path / "detector.pt2")
    export.main([config, checkpoint, file])
    assert "retinanet, 3 classes" in capsys.readouterr().out
    predict.main([file, str(tmp_path / "set/val"), "--out", str(tmp_path / "out"), "--score", "0.1"])
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len(found) > 10 and {entry["category_name"] for entry in found} <= set(CLASSES)
    assert "torch: retinanet of mmdet, images 96 x 160 px, 3 classes" in capsys.readouterr().out
    report = tmp_path / "report.json"
    evaluate.main([config, checkpoint, file, "--root", str(tmp_path / "set"), "--json", str(report)])
    ours, exported = json.loads(report.read_text()).values()
    assert exported["agree"] == 1 and exported["detections"] == ours["detections"] > 30
    assert "time / first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (evaluate, ["config.py", "--root", "set"], "has no checkpoint"),
        (evaluate, ["missing.onnx", "--root", "set"], "does not exist"),
        (predict, ["missing.onnx", "set/val"], "does not exist"),
        (predict, ["x.onnx", "set/val", "--engine", "torch"], "runs files"),
        (predict, ["config.py", "x.pth", "set/val", "--engine", "torch"], "--engine torch is for exported files"),
        (evaluate, ["config.py", "x.pth", "--root", "set", "--engine", "torch"], "--engine torch is for exported"),
        (test, ["x.onnx", "--engine", "torch"], "use `fpn-plugins evaluate x.onnx --root COCO_FOLDER`"),
        (predict, ["set/val/0.png", "x.pth", "set/val"], "is no text; expected a config .py or .yaml, or, in predict"),
        (export, ["pair/tiny.py", "pair/tiny.pth", "a.engine"], "must be a file"),
        (export, ["pair/tiny.py", "pair/tiny.pth", "a.onnx", "--normalized", "--dtype", "uint8"], "no normalized"),
        (export, ["pair/tiny.py", "pair/tiny.pth", "a.pt2", "--mask-form", "pasted"], "retinanet has no masks"),
        (export, ["pair/tiny.py", "pair/tiny.pth", "a.onnx", "--int8", "nowhere"], "folder 'nowhere' does not exist"),
        (export, ["pair/tiny.py", "pair/tiny.pth", "a.pt2", "--int8", "set/val"], "8-bit integers are for files"),
    ],
)
def test_mistakes(
    command: Any, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "set")
    if "pair/tiny.py" in arguments:
        write_pair(tmp_path / "pair", "mmdet")
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 1 and message in error and error.startswith("error: ") and "Traceback" not in error


def test_a_file_takes_the_place_of_the_config(capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        predict.parse_args(["config.py", "x.onnx", "a.jpg"])
    assert stop.value.code == 2 and "'config.py' is followed by an exported file" in capsys.readouterr().err


def test_other_names_of_classes_are_a_warning(tmp_path: Path, capsys: Any) -> None:
    write_set(tmp_path)
    file, names = tmp_path / "annotations/val.json", CLASSES[::-1]
    evaluate.check_classes("a.onnx", Metadata(CLASSES), file)
    evaluate.check_classes("a.onnx", Metadata(("0", "1", "2")), file)  # no names are known
    assert not capsys.readouterr().err
    evaluate.check_classes("a.onnx", Metadata(names), file)
    assert f"class 0 is {names[0]!r} in a.onnx and {CLASSES[0]!r} in" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a.onnx has 1 classes, .* 3 categories"):
        evaluate.check_classes("a.onnx", Metadata(("a",)), file)


def test_calibration_reads_every_format_of_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.npy", "c.TIF", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in export.calibration_files(tmp_path, 9)] == ["a.jpg", "b.npy", "c.TIF"]
    assert [path.name for path in export.calibration_files(tmp_path, 2)] == ["a.jpg", "b.npy"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty' has no images \.npy"):
        export.calibration_files(tmp_path / "empty", 1)
