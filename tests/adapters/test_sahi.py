"""Sliced detection: SAHI's slices and merging around detectors that are known exactly, and around real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_stand_in import StandIn, description
from PIL import Image
from tiny_pair import CLASSES, write_pair

from fpn_plugins.adapters.detectors import LoadedDetector, load_detector
from fpn_plugins.adapters.sahi import FPNPluginsDetectionModel, SlicedPredictor, detections_of
from fpn_plugins.commands import evaluate, predict
from fpn_plugins.inference import Detections, ImagePredictor, ResizeRule
from fpn_plugins.inference.engines import EnginePredictor, Session

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm, pytest.mark.torchvision]
# left, top, right, bottom, class; one is cut by the border between slices of 100 px, one is larger than a slice
TRUTH = ((10, 12, 22, 20, 0), (90, 40, 110, 52, 1), (150, 30, 290, 150, 0), (40, 180, 52, 190, 1))


class Finder(ImagePredictor):
    """Finds rectangles of the values 1, 2, ... exactly, or the part of them that the image shows."""

    def __init__(self, masks: bool) -> None:
        super().__init__(torch.nn.Identity(), rule=ResizeRule(None))
        self.masks, self.shapes = masks, list[tuple[int, ...]]()

    def __call__(self, image: np.ndarray) -> Detections:
        self.shapes.append(image.shape)
        found = []
        for number, (*_, label) in enumerate(TRUTH, 1):
            rows, columns = np.nonzero(image[..., 0] == number)
            if len(rows):
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                # a part of an object is less certain
                found.append(
                    (box, 0.9 if len(rows) == area(TRUTH[number - 1]) else 0.6, label, image[..., 0] == number)
                )
        masks = torch.as_tensor(np.array([one[3] for one in found]).reshape(-1, *image.shape[:2]))
        boxes = torch.tensor([one[0] for one in found], dtype=torch.float32).reshape(-1, 4)
        scores, labels = torch.tensor([one[1] for one in found]), torch.tensor([one[2] for one in found]).long()
        return Detections(boxes, scores, labels, masks if self.masks else None)


def area(truth: tuple[int, ...]) -> int:
    return (truth[2] - truth[0]) * (truth[3] - truth[1])


def scene() -> np.ndarray:
    image = np.zeros((200, 300, 3), np.uint8)
    for number, (left, top, right, bottom, _) in enumerate(TRUTH, 1):
        image[top:bottom, left:right] = number
    return image


@pytest.mark.parametrize("merge", ["GREEDYNMM", "NMM", "NMS"])
@pytest.mark.parametrize("masks", [False, True])
def test_finds_every_object_once_and_whole(merge: str, masks: bool):
    finder = Finder(masks)
    found = SlicedPredictor(finder, 100, 0.25, merge, score=0.3)(scene())
    assert finder.shapes[-1] == (200, 300, 3) and set(finder.shapes[:-1]) == {(100, 100, 3)}
    large = [one for one in found.boxes.tolist() if one[2] - one[0] > 100]
    assert large == [[150, 30, 290, 150]] or merge == "NMS"  # parts that overlap little with the whole remain
    if merge != "NMS":
        assert sorted(map(tuple, found.boxes.int().tolist())) == sorted(one[:4] for one in TRUTH)
        assert found.scores.tolist() == pytest.approx([0.9] * 4) and found.scores.dtype == torch.float32
        order = {
            tuple(box): label for box, label in zip(found.boxes.int().tolist(), found.labels.tolist(), strict=True)
        }
        assert order == {one[:4]: one[4] for one in TRUTH}
    assert (found.masks is not None) is masks
    for box, mask in zip(found.boxes.int().tolist(), found.masks if found.masks is not None else (), strict=masks):
        left, top, right, bottom = box
        assert (
            mask.shape == (200, 300)
            and mask[top:bottom, left:right].all()
            and mask.sum() == (right - left) * (bottom - top)
        )


def test_an_image_without_objects_and_one_smaller_than_a_slice():
    finder = Finder(True)
    empty = SlicedPredictor(finder, 128)(np.zeros((50, 60, 3), np.uint8))
    assert finder.shapes == [(50, 60, 3)]
    assert empty.boxes.shape == (0, 4) and empty.labels.dtype == torch.int64
    found = SlicedPredictor(Finder(False), 400)(scene())
    assert sorted(found.boxes.tolist()) == sorted(Finder(False)(scene()).boxes.tolist())


@pytest.mark.parametrize("merge", ["GREEDYNMM", "NMM", "NMS"])
def test_masks_of_one_pixel_are_kept(merge: str):
    image = np.zeros((200, 300, 3), np.uint8)
    image[10, 10:40], image[120, 130], image[30:50, 299], image[199, 110:120] = 1, 2, 3, 4
    found = SlicedPredictor(Finder(True), 100, 0.25, merge, score=0.3)(image)
    corners = [[10, 10, 40, 11], [110, 199, 120, 200], [130, 120, 131, 121], [299, 30, 300, 50]]
    if merge == "NMS":
        assert sorted(found.boxes.tolist()) == corners
    assert found.masks is not None and len(found.masks) == 4
    shown = found.masks.any(0)
    assert shown[10, 10:40].all() and shown[120, 130] and shown[30:50, 299].all() and shown[199, 110:120].all()


def test_low_scores_are_suppressed_as_in_sahi():
    assert [SlicedPredictor(Finder(False), score=score).merge for score in (0.0, 0.09, 0.1)] == [
        "NMS",
        "NMS",
        "GREEDYNMM",
    ]
    assert SlicedPredictor(Finder(False), merge="NMM").merge == "NMM"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"overlap": 1.0}, "overlap=1.0"),
        ({"score": 2}, "score=2"),
        ({"merge": "X"}, "merge='X'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SlicedPredictor(Finder(False), **arguments)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Config and weights, by toolbox."""
    folder = tmp_path_factory.mktemp("pairs")
    return {name: write_pair(folder / name, name) for name in ("mmdet", "detectron2")}


def photograph(height: int = 120, width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
def test_detectors_of_both_toolboxes_are_models_of_sahi(
    toolbox: str, pairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from sahi.predict import get_prediction, get_sliced_prediction

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config, checkpoint = pairs[toolbox]
    model = FPNPluginsDetectionModel(checkpoint, config_path=config, confidence_threshold=0.3, image_size=(96, 160))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ  # SAHI's own sets it to -1
    assert model.category_names == list(CLASSES) and model.num_categories == 3
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    wanted = load_detector(config, checkpoint)(photograph()).above(0.3)
    found = get_prediction(str(tmp_path / "a.png"), model).object_prediction_list
    assert len(found) == len(wanted.scores) > 3
    assert torch.allclose(detections_of(found, (120, 200)).boxes, wanted.boxes, atol=1e-3)
    assert [one.category.name for one in found] == [CLASSES[label] for label in wanted.labels]
    model.category_remapping = {"0": 10, "1": 11, "2": 12}
    result = get_sliced_prediction(str(tmp_path / "a.png"), model, 80, 80, verbose=0)
    assert {one.category.id for one in result.object_prediction_list} <= {10, 11, 12}
    assert result.to_coco_predictions(image_id=7)[0]["image_id"] == 7


def test_an_exported_detector_is_a_model_of_sahi():
    from sahi.predict import get_prediction

    model = StandIn().eval()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in model(torch.from_numpy(images)).items()}

    engine = EnginePredictor(Session(description(), run, "torch"))
    wrapped = FPNPluginsDetectionModel(model=engine, confidence_threshold=0.2)
    found = get_prediction(photograph(), wrapped).object_prediction_list
    assert found and {one.category.name for one in found} <= {"disk", "square"}
    assert all(one.mask is not None for one in found)
    sliced = SlicedPredictor(engine, 96, score=0.2)(photograph())
    assert sliced.masks is not None and sliced.masks.shape[1:] == (120, 200) and sliced.masks.flatten(1).any(1).all()


def test_missing_files_are_named():
    with pytest.raises(ValueError, match="model_path=None"):
        FPNPluginsDetectionModel()
    with pytest.raises(ValueError, match="config_path=None"):
        FPNPluginsDetectionModel("a.pth")


def test_supervision_slices_a_loaded_detector():
    import supervision as sv

    detector = LoadedDetector(None, Finder(False), dict(enumerate("ab")))
    slicer = sv.InferenceSlicer(
        callback=lambda tile: detector(tile).to_supervision(detector.names), slice_wh=(100, 100), overlap_wh=(25, 25)
    )
    found = slicer(scene())
    assert {tuple(box) for box in found.xyxy.astype(int).tolist()} >= {one[:4] for one in TRUTH if area(one) < 1000}


@pytest.mark.parametrize("toolbox", ["mmdet", "detectron2"])
def test_commands_slice_and_augment(toolbox: str, pairs: Any, tiny_coco: Path, tmp_path: Path, capsys: Any):
    Image.fromarray(photograph(192, 320)).save(tmp_path / "a.png")
    command = [
        *pairs[toolbox],
        str(tmp_path / "a.png"),
        "--no-pictures",
        "--score",
        "0",
        "--out",
        str(tmp_path / "out"),
    ]
    found = []
    for options in ([], ["--tta"], ["--tta", "96", "160"], ["--slice", "128", "--overlap", "0.3", "--merge", "NMS"]):
        predict.main([*command, *options])
        found.append(json.loads((tmp_path / "out" / "predictions.json").read_text()))
    assert [len(entries) for entries in found[:3]] == [20] * 3 and len(found[3]) > 20  # 20 is the detector's limit
    assert found[0] != found[1] != found[2]
    config, checkpoint = write_pair(tmp_path / "four", toolbox, ("a", "b", "c"))
    truth = json.loads((tiny_coco / "annotations/instances_val2017.json").read_text())
    truth["categories"] = truth["categories"][:3]
    known = {entry["id"] for entry in truth["categories"]}
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["category_id"] in known]
    for name in ("train", "val"):
        (tmp_path / "set" / f"{name}2017").mkdir(parents=True)
    (tmp_path / "set/annotations").mkdir()
    for entry in truth["images"]:
        (tmp_path / "set/val2017" / entry["file_name"]).symlink_to(tiny_coco / "val2017" / entry["file_name"])
    (tmp_path / "set/annotations/instances_val2017.json").write_text(json.dumps(truth))
    options = ["--root", str(tmp_path / "set"), "--num-images", "2", "--tta", "--slice", "128", "--json"]
    evaluate.main([config, checkpoint, *options, str(tmp_path / "ap.json")])
    report = json.loads((tmp_path / "ap.json").read_text())
    assert list(report) == [f"tiny ({toolbox})", f"tiny ({toolbox}), TTA and slices 128"]
    assert all("AP_S" in entry["scores"]["bbox"] for entry in report.values())
    assert "bbox AP" in capsys.readouterr().out
