"""Panoptic quality: 1 for the truth, less for what misses a segment, and other classes are an error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpn_plugins.analysis.panoptic_quality import evaluate_panoptic
from fpn_plugins.data import PanopticSplit
from fpn_plugins.inference import PanopticSegments, Segment


@pytest.fixture
def split(tmp_path: Path) -> PanopticSplit:
    """One image, the left half a disk (category 3), the right half water (category 9)."""
    ids = np.ones((10, 20), np.uint8)
    ids[:, 10:] = 2
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1)).save(tmp_path / "masks/a.png")
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "a.jpg")
    segments = [{"id": key, "category_id": number, "iscrowd": 0, "area": 100} for key, number in ((1, 3), (2, 9))]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 3, "name": "disk", "isthing": 1}, {"id": 9, "name": "water", "isthing": 0}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    return PanopticSplit(
        tmp_path, tmp_path / "panoptic.json", tmp_path / "masks", tmp_path, tmp_path, {3: "disk"}, {9: "water"}
    )


def test_quality_by_kind(split: PanopticSplit) -> None:
    ids = torch.ones(10, 20, dtype=torch.int64)
    ids[:, 10:] = 300
    right = PanopticSegments(ids, [Segment(1, 0, True), Segment(300, 0, False), Segment(7, 0, True)])
    less = PanopticSegments(ids * (ids == 1), [Segment(1, 0, True)])
    scores = evaluate_panoptic({"right": lambda image: right, "less": lambda image: less}, split)
    assert scores["right"] == {"PQ": 1, "PQ_things": 1, "PQ_stuff": 1}
    assert scores["less"] == {"PQ": 0.5, "PQ_things": 1, "PQ_stuff": 0}


def test_other_classes_are_an_error(split: PanopticSplit) -> None:
    other = PanopticSegments(torch.ones(10, 20, dtype=torch.int64), [Segment(1, 4, False)])
    with pytest.raises(ValueError, match="class 4 of the stuff"):
        evaluate_panoptic({"other": lambda image: other}, split)


def test_an_image_that_is_refused_is_named(split: PanopticSplit) -> None:
    def refuse(image: np.ndarray) -> PanopticSegments:
        raise ValueError(f"images of {image.shape[0]} rows are too small")

    with pytest.raises(ValueError, match=r"image '.*a\.jpg': images of 10 rows are too small"):
        evaluate_panoptic({"small": refuse}, split)
