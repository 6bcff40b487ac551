"""Statistics of object sizes against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from fpn_plugins.data import fpn_level, retinanet_level, size_statistics

# Boxes of side 16, 64, 128 and 448 px; the masks fill a quarter of each box.
SIDES = (16, 64, 128, 448)


@pytest.fixture
def content():
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1 + i % 2, "bbox": [0, 0, s, s], "area": s * s / 4}
            for i, s in enumerate(SIDES)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "horse"}],
    }


@pytest.fixture
def statistics_of(tmp_path):
    def run(content, **arguments):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return size_statistics(path, **arguments)

    return run


@pytest.mark.parametrize(
    ("side", "fpn", "retinanet"),
    [
        (1, 2, 3),
        (45, 2, 3),
        (46, 2, 4),
        (111.9, 2, 5),
        (112, 3, 5),
        (224, 4, 6),
        (447.9, 4, 7),
        (448, 5, 7),
        (5e3, 5, 7),
    ],
)
def test_levels_of_square_boxes(side, fpn, retinanet):
    assert fpn_level([side], [side]).tolist() == [fpn]
    assert retinanet_level([side], [side]).tolist() == [retinanet]


def test_levels_follow_the_area_of_the_box_and_not_its_shape():
    assert fpn_level([56, 448], [896, 112]).tolist() == [4, 4]
    assert retinanet_level([64, 16], [16, 64]).tolist() == [3, 3]


def test_fpn_level_is_equation_1():
    width, height = np.random.default_rng(0).uniform(1, 2000, size=(2, 500))
    expected = [
        min(max(math.floor(4 + math.log2(math.sqrt(w * h) / 224)), 2), 5) for w, h in zip(width, height, strict=True)
    ]
    assert fpn_level(width, height).tolist() == expected


def test_statistics_of_known_boxes(statistics_of, content):
    stats = statistics_of(content, bins=8)
    assert stats["objects"] == 4
    assert stats["size_classes"] == {"small": 1, "medium": 2, "large": 1}
    assert stats["sqrt_area_percentiles"]["50"] == pytest.approx((32 + 64) / 2)
    assert stats["fpn_level_share"] == {"p2": 0.5, "p3": 0.25, "p4": 0.0, "p5": 0.25}
    assert stats["retinanet_level_share"] == {"p3": 0.25, "p4": 0.25, "p5": 0.25, "p6": 0.0, "p7": 0.25}
    assert stats["per_category"]["cat"] == {"objects": 2, "small": 1, "medium": 1, "large": 0, "median_sqrt_area": 36}
    assert stats["per_category"]["horse"]["objects"] == 0 and stats["per_category"]["horse"]["median_sqrt_area"] is None
    assert sum(stats["histogram"]["counts"]) == 4 and len(stats["histogram"]["edges"]) == 9
    assert json.loads(json.dumps(stats)) == stats


def test_crowd_regions_and_empty_boxes_do_not_count(statistics_of, content):
    content["annotations"][3]["iscrowd"] = 1
    content["annotations"][2].update(bbox=[5, 5, 9, 0], area=0)
    assert statistics_of(content)["objects"] == 2


def test_resizing_moves_levels_only(statistics_of, content):
    # 480 x 640 -> 960 x 1280: boxes of 32, 128, 256 and 896 px.
    resized, original = statistics_of(content, resize=(960, 1333)), statistics_of(content)
    assert resized["fpn_level_share"] == {"p2": 0.25, "p3": 0.25, "p4": 0.25, "p5": 0.25}
    assert resized["size_classes"] == original["size_classes"] and resized["histogram"] == original["histogram"]
    # Here the longer side is the limit, 480 x 640 -> 720 x 960, and no box grows into the next level.
    assert statistics_of(content, resize=(960, 960))["fpn_level_share"] == original["fpn_level_share"]


def test_file_without_objects(statistics_of, content):
    content["annotations"] = []
    stats = statistics_of(content)
    assert stats["objects"] == 0 and stats["sqrt_area_percentiles"] == {} and stats["histogram"]["counts"] == []
    assert set(stats["fpn_level_share"].values()) == {0.0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bins": 0}, ValueError, "bins=0 must be at least 1"),
        ({"bins": 2.0}, TypeError, "bins=2.0 must be an integer"),
        ({"resize": (1333, 800)}, ValueError, r"resize=\(1333, 800\) is not \(shorter side, longest side\)"),
        ({"resize": 800}, ValueError, "resize=800 is not"),
    ],
)
def test_bad_arguments_are_named(statistics_of, content, arguments, error, message):
    with pytest.raises(error, match=message):
        statistics_of(content, **arguments)


def test_bad_file_is_an_error(statistics_of, content):
    content["annotations"][0]["category_id"] = 9
    with pytest.raises(ValueError, match="unknown category"):
        statistics_of(content)
