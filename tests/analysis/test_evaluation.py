"""Evaluation of detectors on images: one that is refused or cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpn_plugins.analysis.evaluation import evaluate_detectors
from fpn_plugins.data import CocoSplit
from fpn_plugins.inference import Detections


@pytest.fixture
def split(tmp_path: Path) -> CocoSplit:
    """Two images, of 10 and 20 rows, with an object on each."""
    images = []
    for number, height in enumerate((10, 20), 1):
        Image.fromarray(np.zeros((height, 20, 3), np.uint8)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 20, "height": height})
    objects = [
        {"id": n, "image_id": n, "category_id": 7, "bbox": [2, 3, 8, 5], "area": 40, "iscrowd": 0} for n in (1, 2)
    ]
    content = {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "disk"}]}
    (tmp_path / "val.json").write_text(json.dumps(content))
    return CocoSplit(tmp_path / "val.json", tmp_path, ("disk",))


def detect(image: np.ndarray) -> Detections:
    if image.shape[0] == 20:
        raise ValueError("images of 20 rows are too large")
    return Detections(torch.tensor([[2.0, 3, 10, 8]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))


def test_objects_are_scored(split: CocoSplit) -> None:
    scores, found = evaluate_detectors({"d": detect}, split, num_images=1)
    assert scores["d"]["bbox"]["AP"] == pytest.approx(1)
    assert list(found["d"]) == [1]


def test_an_image_that_is_refused_is_named(split: CocoSplit) -> None:
    with pytest.raises(ValueError, match=r"^image '.*2\.png': images of 20 rows are too large"):
        evaluate_detectors({"d": detect}, split)


def test_an_image_that_cannot_be_read_is_named_once(split: CocoSplit) -> None:
    (split.image_dir / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^image '[^']*1\.png' cannot be read"):
        evaluate_detectors({"d": detect}, split)


class Brightness:
    """Detector that finds an object as certain as its image is bright."""

    def __init__(self, toolbox: str | None) -> None:
        self.toolbox = toolbox

    def __call__(self, image: np.ndarray) -> Detections:
        return detect(image)._replace(scores=torch.tensor([float(image.max())]))


def test_gray_values_of_16_bits_are_those_of_the_toolbox(split: CocoSplit) -> None:
    Image.fromarray(np.full((10, 20), 40000, np.uint16)).save(split.image_dir / "1.png")
    detectors = {str(name): Brightness(name) for name in ("mmdet", "detectron2", None)}
    _, found = evaluate_detectors(detectors, split, num_images=1)
    assert [found[name][1].scores.tolist() for name in detectors] == [[156], [255], [255]]
