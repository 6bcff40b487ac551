"""Labels in a crowd never cover each other, stay in the picture, and have the color of their class."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from fpn_plugins.visualization import annotate_objects
from fpn_plugins.visualization.labels import Mark, annotate, color_of, place_labels


@pytest.mark.parametrize("number", [3, 60, 300])
def test_labels_do_not_overlap(number: int) -> None:
    draw = np.random.default_rng(number)
    corners = draw.uniform(0, 500, (number, 2))
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, draw.uniform(5, 140, (number, 2)), strict=True)]
    marks = [Mark((0, 0, 1, 1), (0, 0, 0), "wine glass 0.93", score=score) for score in draw.uniform(size=number)]
    placed = list(place_labels(marks, boxes, (640, 640), lambda text: (6 * len(text), 12)))
    places = np.array([place for _, _, place in placed])
    assert len(placed) >= min(number, 40) and (places >= 0).all() and (places < 640).all()
    assert all(text and mark.label.startswith(text) for mark, text, _ in placed)
    left, top, right, bottom = places.T[:, :, None]
    across = (left < right.T) & (right > left.T) & (top < bottom.T) & (bottom > top.T)
    assert across.sum() == len(placed)  # each with itself alone


def test_colors_are_distinct() -> None:
    colors = np.array([color_of(index) for index in range(20)], float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    assert (distances + 1000 * np.eye(20)).min() > 40
    assert len({color_of(index) for index in range(80)}) == 80


def test_a_mask_has_the_color_of_its_box() -> None:
    image = np.full((480, 640, 3), 128, np.uint8)
    mask = np.zeros((480, 640), np.uint8, order="F")
    mask[200:300, 200:300] = 1
    rle = mask_utils.encode(mask)
    entry = {"category_id": 7, "bbox": [150, 150, 200, 200], "segmentation": rle, "score": 0.5}
    drawn = annotate_objects(image, [entry], {3: "cup", 7: "disk"})
    assert (
        drawn.shape == image.shape and (drawn[350, 250] == color_of(1)).all() and (drawn[200, 250] == color_of(1)).all()
    )
    inside = drawn[250, 250].astype(float)
    assert np.allclose(inside, 0.7 * 128 + 0.3 * np.array(color_of(1)), atol=1.5)
    assert (drawn[10, 10] == 128).all() and (image == 128).all()


def test_small_images_are_enlarged_unless_the_size_must_stay() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    marks = [Mark((-5, -5, 200, 30), color_of(0), "x")]  # reaches beyond the image
    assert annotate(image, marks).shape == (400, 640, 3)
    assert annotate(image, marks, enlarge=False).shape == image.shape
    assert (annotate(image, []) == 0).all()


def test_hundreds_of_labels_are_placed_in_a_moment() -> None:
    """A loop over the places, and over the objects for each, takes several seconds."""
    draw = np.random.default_rng(0)
    boxes = [(x, y, x + 60, y + 40) for x, y in draw.uniform(0, 600, (600, 2))]
    marks = [Mark((0, 0, 1, 1), (0, 0, 0), "a long class name 0.93", score=score) for score in draw.uniform(size=600)]
    start = time.process_time()
    assert list(place_labels(marks, boxes, (640, 640), lambda text: (6 * len(text), 12)))
    assert time.process_time() - start < 4


def test_masks_at_the_border_and_empty_ones() -> None:
    image, mask = np.zeros((640, 640, 3), np.uint8), np.zeros((640, 640), bool)
    assert (annotate(image, [Mark((0, 0, 0, 0), (9, 9, 9), mask=mask)])[5:, 5:] == 0).all()
    mask[:20, 600:] = True
    drawn = annotate(image, [Mark((0, 300, 0, 0), (90, 90, 90), mask=mask)])
    assert (drawn[10, 639] == 90).all() and (drawn[10, 620] == 27).all() and (drawn[30:290] == 0).all()
