"""Predict: inputs of every kind, pictures, a video that plays, JSON in COCO's formats, no data, supervision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_pair import CLASSES, write_pair

from fpn_plugins.adapters.detectors import load_detector
from fpn_plugins.commands import predict
from fpn_plugins.inference import read_pictures, video_info, write_video

ROOT = Path(__file__).resolve().parents[2]
both = pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Config and weights, by toolbox."""
    folder = tmp_path_factory.mktemp("pairs")
    return {name: write_pair(folder / name, name) for name in ("mmdet", "detectron2")}


def photograph(height: int = 120, width: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_inputs(folder: Path) -> None:
    """Two images in folders, one elsewhere, an empty and a damaged one, and a video of odd width."""
    for name in ("set/a.png", "set/deep/b.jpg", "c.bmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph()).save(folder / name)
    (folder / "empty.png").touch()
    (folder / "damaged.jpg").write_bytes((folder / "set/deep/b.jpg").read_bytes()[:900])
    with write_video(folder / "v.mp4", 10) as video:
        for seed in range(5):
            video.write(photograph(90, 121, seed))


@both
def test_images_folders_globs_and_videos(
    toolbox: str, pairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FPN_PLUGINS_COCO", raising=False)
    write_inputs(tmp_path)
    inputs = ["set", "*.bmp", "empty.png", "damaged.jpg", "v.mp4", "set/a.png", "--every", "2", "--out", "set/out"]
    with pytest.raises(SystemExit) as stop:
        predict.main([*pairs[toolbox], *inputs, "--score", "0.2"])
    printed = capsys.readouterr()
    assert stop.value.code == 1 and printed.err.startswith("error: 2 of 6 files:\n")
    assert "empty.png" in printed.err and "damaged.jpg" in printed.err and "Traceback" not in printed.err
    assert "96 x 160 px (the config's), 3 classes (named by the checkpoint)" in printed.out
    out = tmp_path / "set/out"
    names = ["00000_a.png", "00001_b.png", "00002_c.png", "00003_v.mp4", "images.json", "predictions.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert video_info(out / "00003_v.mp4") == (3, 5.0)
    shapes = [image.shape for _, image in read_pictures(out / "00003_v.mp4")]
    assert shapes == [(90, 122, 3)] * 3
    check_json(out)
    predict.main([*pairs[toolbox], "set", "--out", "set/out"])  # drawn pictures in the output are no input
    assert len(json.loads((out / "images.json").read_text())["images"]) == 2


def check_json(out: Path) -> None:
    """Both files fit each other, and pycocotools reads them."""
    from pycocotools.coco import COCO

    images, found = (json.loads((out / name).read_text()) for name in ("images.json", "predictions.json"))
    assert [image["file_name"] for image in images["images"]] == [
        *("set/a.png", "set/deep/b.jpg", "c.bmp"),
        *["v.mp4"] * 3,
    ]
    assert [image.get("frame") for image in images["images"]] == [None, None, None, 0, 2, 4]
    assert images["categories"] == [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    assert found and {entry["category_name"] for entry in found} <= set(CLASSES)
    assert all(entry["score"] >= 0.2 for entry in found)
    left, top, width, height = np.array([entry["bbox"] for entry in found if entry["file_name"] == "c.bmp"]).T
    assert (left + width).max() > 160 and (left + width).max() <= 200.01 and (top + height).max() <= 120.01
    truth = COCO()
    truth.dataset = {**images, "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(found).anns) == len(found)


@both
def test_drawn_pictures_show_what_was_found(toolbox: str, pairs: Any, tmp_path: Path) -> None:
    Image.fromarray(photograph(480, 640)).save(tmp_path / "a.png")
    arguments = [*pairs[toolbox], str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--score", "0"]
    predict.main(arguments)
    drawn = np.asarray(Image.open(tmp_path / "out" / "00000_a.png"))
    assert drawn.shape == (480, 640, 3) and (drawn != photograph(480, 640)).any(2).mean() > 0.01
    predict.main([*arguments, "--draw-score", "1"])
    assert (np.asarray(Image.open(tmp_path / "out" / "00000_a.png")) == photograph(480, 640)).all()
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())


@both
def test_the_demo_needs_no_data(
    toolbox: str, tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from fpn_plugins.adapters.hosts import build_detector
    from fpn_plugins.weights import write_checkpoint

    config = f"fpn_plugins::{toolbox}/demo_mask_rcnn"
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    weights = build_detector(config).state_dict()
    monkeypatch.delenv("FPN_PLUGINS_COCO")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph()).save("a.png")
    for classes, source in (((), "numbered"), (("p", "q", "r", "s"), "named by the checkpoint")):
        write_checkpoint(weights, "demo.pth", classes=classes)
        predict.main([config, "demo.pth", "a.png", "--no-pictures"])
        printed = capsys.readouterr().out
        assert "images 240 x 320 px (the config's), 4 classes" in printed and source in printed
    assert [path.name for path in Path("work_dirs/predict").iterdir() if path.suffix != ".json"] == []


def test_a_broken_video_is_named_and_its_beginning_kept(pairs: Any, tmp_path: Path, capsys: Any) -> None:
    with write_video(tmp_path / "whole.mp4", 10) as video:
        for seed in range(20):
            video.write(photograph(seed=seed))
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    data[len(data) // 3 : -2000] = bytes(len(data[len(data) // 3 : -2000]))
    (tmp_path / "broken.mp4").write_bytes(data)
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(SystemExit):
        inputs = [str(tmp_path / name) for name in ("broken.mp4", "text.mp4")]
        predict.main([*pairs["mmdet"], *inputs, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert "text.mp4' cannot be read" in error and "broken.mp4' is damaged: it ends after" in error
    assert 0 < video_info(tmp_path / "out" / "00000_broken.mp4").frames < 20


def test_published_weights_are_named_like_a_config() -> None:
    config = "fpn_plugins::mmdet/retinanet_r50_fpn_12e"
    with pytest.raises(ValueError, match="no weights of 'retinanet_r50_fpn_12e' have been published"):
        load_detector(config, "fpn_plugins::mmdet/retinanet_r50_fpn_12e")
    with pytest.raises(ValueError, match="the model zoo has no 'nothing'"):
        load_detector(config, "fpn_plugins::nothing")


def test_a_codec_that_does_not_work_is_an_error(pairs: Any, tmp_path: Path, capsys: Any) -> None:
    write_inputs(tmp_path)
    with pytest.raises(SystemExit):
        video, out = str(tmp_path / "v.mp4"), tmp_path / "out"
        predict.main([*pairs["mmdet"], video, "--out", str(out), "--codec", "nope"])
    assert "error: codec='nope' does not work" in capsys.readouterr().err and not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "nowhere"], "device='nowhere' does not exist here"),
        (["--classes", "one,two"], "classes has 2 categories, the detector 3"),
        (["--classes", "one,one"], "must be different names"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, pairs: Any, tmp_path: Path, capsys: Any) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        predict.main([*pairs["mmdet"], str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err


@both
def test_supervision_annotates_tracks_and_counts(toolbox: str, pairs: Any) -> None:
    import supervision
    from trackers import ByteTrackTracker

    detector, image = load_detector(*pairs[toolbox]), photograph()
    found = detector(image).above(0.2)
    objects = found.to_supervision(detector.names)
    assert len(objects) == len(found.scores) > 3 and objects.mask is None
    assert [CLASSES[label] for label in found.labels] == list(objects.data["class_name"])
    assert np.allclose(objects.xyxy, found.boxes) and np.allclose(objects.confidence, found.scores)
    drawn = supervision.BoxAnnotator().annotate(image.copy(), objects)
    drawn = supervision.LabelAnnotator().annotate(drawn, objects)
    assert (drawn != image).any()
    tracker = ByteTrackTracker(track_activation_threshold=0.2, high_conf_det_threshold=0.2)
    tracked = [tracker.update(objects) for _ in range(3)][-1]
    tracked = tracked[tracked.tracker_id != -1]
    assert len(set(tracked.tracker_id)) == len(tracked) > 0 and set(tracked.data["class_name"]) <= set(CLASSES)
    zone = supervision.PolygonZone(np.array([[0, 0], [200, 0], [200, 120], [0, 120]]))
    zone.trigger(objects)
    assert zone.current_count > 0
    assert len(detector(image).above(2).to_supervision(detector.names)) == 0
    with pytest.raises(ValueError, match="names has 1 classes"):
        found.to_supervision(["one"])
