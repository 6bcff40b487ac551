"""Pictures are written, and show what they are given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpn_plugins.data import find_split
from fpn_plugins.visualization import draw_predictions, draw_pyramid
from fpn_plugins.visualization.pyramid import energy, named_levels


def test_energy_shows_where_not_what() -> None:
    feature = torch.zeros(4, 6, 8)
    feature[0, 2, 3], feature[1, 4, 5] = 5.0, -5.0
    shown = energy(feature)
    assert shown.min() == 0 and shown[2, 3] == shown[4, 5] == shown.max()


def test_pyramid_picture_has_a_column_per_level(tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 128, dtype=np.uint8)
    maps = [torch.randn(2, 4, 16, 20), torch.randn(2, 4, 8, 10)]
    few = draw_pyramid(image, {"neck": named_levels(maps[:1], ["p2"])}, tmp_path / "few.png")
    many = draw_pyramid(image, {"neck": named_levels(maps, ["p2", "p3"])}, tmp_path / "many.png", "title")
    assert Image.open(many).width > Image.open(few).width
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.png", "many.png"]


def test_pyramid_picture_refuses_batches_and_nothing(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"\(1, 4, 2, 2\), expected C H W"):
        draw_pyramid(image, {"neck": {"p2": torch.zeros(1, 4, 2, 2)}}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one map"):
        draw_pyramid(image, {"neck": {}}, tmp_path / "x.png")


def test_predictions_change_the_picture(tiny_coco: Path, tmp_path: Path) -> None:
    split = find_split(tiny_coco, "val")
    objects = json.loads(split.ann_file.read_text())["annotations"]
    found = [{**entry, "score": 0.9} for entry in objects]
    unsure = [{**entry, "score": 0.1} for entry in objects]
    arguments = (split.ann_file, split.image_dir)
    shown = draw_predictions(*arguments, {"a": found}, tmp_path / "shown.png", num_images=1)
    hidden = draw_predictions(*arguments, {"a": unsure}, tmp_path / "hidden.png", num_images=1)
    assert np.abs(np.asarray(Image.open(shown)).astype(int) - np.asarray(Image.open(hidden))).sum() > 10_000
