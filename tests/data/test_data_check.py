"""The check of data: every fault that training or evaluation would meet, with file, id, remedy and how to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coco_files import HEIGHT, WIDTH, content_with_masks, good_content, rle, write_folder, write_image, write_json

from fpn_plugins.data import CocoSet, DataCheck, Head, check_coco, check_data, coco_set
from fpn_plugins.data import coco_check as coco_check_module
from fpn_plugins.data.segmentations import decode_counts

Change = Callable[[dict[str, Any]], Any]


def each(part: str, **values: Any) -> Change:
    """A change of all entries of a list; a function computes the new value of the old one."""

    def change(content: dict[str, Any]) -> None:
        for entry in content[part]:
            for key, value in values.items():
                if value is None:
                    entry.pop(key)
                else:
                    entry[key] = value(entry[key]) if callable(value) else value

    return change


def first(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def all_of(*changes: Change) -> Change:
    return lambda content: [change(content) for change in changes]


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., DataCheck]:
    """Write the content after a change, and check it for a use, without images."""

    def run(change: Change, content: dict[str, Any] | None = None, heads: Any = (), **use: Any) -> DataCheck:
        content = good_content() if content is None else content
        change(content)
        source = CocoSet(write_json(tmp_path / "set.json", content), **use)
        return check_data([source], heads)

    return run


def image_ids(kind: Callable[[Any], Any]) -> Change:
    return all_of(each("images", id=kind), each("annotations", image_id=kind))


@pytest.mark.parametrize(
    "change",
    [
        image_ids(lambda number: f"image {number}"),
        image_ids(float),
        each("annotations", image_id=float),
        each("annotations", id=str),
        each("annotations", id=float),
        all_of(each("categories", id="c{}".format), each("annotations", category_id="c{}".format)),
        all_of(each("categories", id=float), each("annotations", category_id=float)),
        each("images", width=float, height=float),
        each("annotations", iscrowd=float),
        each("annotations", iscrowd=bool),
        first(segmentation={"size": [80.0, 100.0], "counts": [0.0, 1600.0, 6400.0]}),
        lambda content: content.pop("info"),
    ],
    ids=range(12),
)
def test_accepts_what_both_toolboxes_accept(check: Any, change: Change) -> None:
    result = check(change)
    assert not result.findings and len(result.require()) == 1


@pytest.mark.parametrize(
    ("change", "use", "message"),
    [
        (each("annotations", iscrowd=None), {}, r"4 x annotation without iscrowd.*annotation 1.*add \"iscrowd\": 0"),
        (first(iscrowd=None), {}, "iscrowd is neither 0 nor 1: annotation 1: None"),
        (first(iscrowd="0"), {}, "iscrowd is neither 0 nor 1: annotation 1: '0'"),
        (each("annotations", area=None), {}, "4 x annotation without area.*MMDetection's training and both"),
        (each("annotations", id="a{}".format), {}, "id that is a text and no number.*'a1'.*number the annotations"),
        (each("images", width=float), {"evaluated": frozenset({"segm"})}, "size is written as a float.*100.0 x 80"),
        (lambda c: c["images"][0].update(id="1"), {}, "mixes texts and numbers"),
        (first(ignore=1), {}, "true 'ignore'.*annotation 1.*Detectron2 stops"),
        (lambda c: c["categories"][0].update(name="{{_base_.a}}"), {}, "two opening braces.*_base_.a.*rename"),
        (each("annotations", iscrowd=1), {}, "without an object to train on: 3 images, 4 annotations, 4 of them crowd"),
        (lambda c: c.update(annotations=[]), {}, "without an object to train on: 3 images, 0 annotations"),
        (each("annotations", bbox=[500, 500, 9, 9]), {}, "without an object to train on"),
        (each("annotations", area=0), {}, "without an object to train on"),
        (lambda c: None, {"min_side": 81}, "without an object to train on"),
        (lambda c: None, {"masks": True}, "1 x annotation without segmentation.*annotation 3.*with_mask=False"),
        (lambda c: None, {"evaluated": frozenset({"segm"})}, "1 x annotation without segmentation.*annotation 3"),
        (lambda c: None, {"polygons": True}, "1 x RLE mask.*annotation 2.*INPUT.MASK_FORMAT=bitmask"),
    ],
)
def test_finds_what_would_stop_or_mislead(check: Any, change: Change, use: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check(change, **use).require()
    assert "set.json" in str(caught.value) and "FPN_PLUGINS_CHECK_DATA=warn" in str(caught.value)


def test_training_alone_needs_no_keys_of_the_evaluation(check: Any) -> None:
    change = all_of(each("annotations", iscrowd=None, id="a{}".format))
    assert not check(change, evaluated=frozenset()).findings


def test_evaluation_without_objects_is_a_warning(check: Any) -> None:
    result = check(each("annotations", iscrowd=1), trained=False)
    assert result.require() and "every AP is -1" in result.describe(errors=False)


def test_one_toolbox_alone_is_not_held_to_the_rules_of_the_other(check: Any) -> None:
    assert check(lambda content: content["categories"][0].update(name="{{a"), toolbox="detectron2").require()
    assert check(first(ignore=1), toolbox="mmdet").require()
    with pytest.raises(ValueError, match="ignore"):
        check(first(ignore=1), toolbox="detectron2").require()


def test_info_is_needed_where_pycocotools_needs_it(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycocotools.coco import COCO

    def demanding(self: Any, results: Any) -> None:
        self.dataset["info"]

    monkeypatch.setattr(COCO, "loadRes", demanding)
    coco_check_module._info_is_needed.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"without 'info'.*pycocotools>=2.0.11"):
            check(lambda content: content.pop("info")).require()
        assert check(lambda content: content.pop("info"), evaluated=frozenset()).require()
    finally:
        coco_check_module._info_is_needed.cache_clear()


COUNTS = rle()["counts"]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (str(COUNTS.encode()), r"str\(bytes\)"),
        (COUNTS[: len(COUNTS) // 2], "RLE covers|cut off"),
        (COUNTS[:-1] + "o", "cut off"),
        ("", "cut off"),
        (COUNTS + "1", "RLE covers"),
        (COUNTS[:3] + "~" + COUNTS[4:], "has the character '~' at 3"),
        (COUNTS[:3] + "\u00e9" + COUNTS[4:], "has the character 'é' at 3"),
        ("o" * 40 + "0", "more than 32 bits"),
        ("0N0", "damaged: a run of -2 px"),
        ([-1, 8001], "damaged: a run of -1 px"),
    ],
)
def test_damaged_encodings(check: Any, counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"malformed segmentation: annotation 1: .*({message})"):
        check(first(segmentation={"size": [HEIGHT, WIDTH], "counts": counts})).require()


def test_decodes_like_pycocotools() -> None:
    import numpy as np
    from pycocotools import mask as mask_utils

    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = np.asfortranarray(rng.random(rng.integers(1, 70, 2)) < rng.random(), dtype=np.uint8)
        runs = decode_counts(mask_utils.encode(mask)["counts"].decode())
        pixels = np.repeat(np.arange(len(runs)) % 2, runs)
        assert (pixels == mask.flatten(order="F")).all()


def swapped(content: dict[str, Any]) -> dict[str, Any]:
    content["categories"] = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}]
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, r"label 0 differs: it has \(dog, cat\), .*train2017.json' has \(cat, dog\)"),
        (each("categories", name=lambda name: name.replace("dog", "Dog")), r"label 1 differs: it has \(cat, Dog\)"),
        (lambda c: c["categories"].append({"id": 9, "name": "cow"}), r"label 2 differs: it has \(cat, dog, cow\)"),
    ],
)
def test_compares_the_categories_of_all_files(tmp_path: Path, change: Change, message: str) -> None:
    val = good_content()
    change(val)
    root = write_folder(tmp_path, good_content(), val)
    sets = [coco_set(root / f"annotations/instances_{split}2017.json", None, use=split) for split in ("train", "val")]
    with pytest.raises(ValueError, match=message):
        check_data(sets).require()


@pytest.mark.parametrize(("number", "fits"), [(1, False), (2, True), (80, False)])
def test_compares_the_heads_in_both_directions(check: Any, number: int, fits: bool) -> None:
    result = check(lambda content: None, heads=[Head("model.bbox_head.num_classes", number)])
    if fits:
        assert result.require()
    else:
        with pytest.raises(ValueError, match=rf"has 2 classes \(cat, dog\), but .*: {number}}} differ.*num_classes=2"):
            result.require()


def test_a_file_with_several_uses_is_checked_for_all_of_them(tmp_path: Path) -> None:
    content = content_with_masks()
    each("annotations", iscrowd=None)(content)
    source = coco_set(write_json(tmp_path / "a.json", content), None, use="train")
    assert check_data([source]).require()
    other = replace(source, trained=False, evaluated=frozenset({"bbox"}))
    result = check_data([source, other])
    assert len([finding for finding in result.findings if finding.error]) == 1


def test_errors_of_content_and_missing_images_come_together(tmp_path: Path) -> None:
    content = good_content()
    content["annotations"][0]["area"] = None
    with pytest.raises(ValueError, match=r"(?s)without area.*3 of 3 images are not in image_dir"):
        check_coco(write_json(tmp_path / "a.json", content), tmp_path)


def test_only_a_sample_of_headers_is_read_unless_all_are_wanted(tmp_path: Path) -> None:
    content = good_content()
    for image in content["images"]:
        write_image(tmp_path / image["file_name"])
    path = write_json(tmp_path / "a.json", content)
    report = check_coco(path, tmp_path, limit=2)
    assert sum(report.modes.values()) == 2 and "headers read" in str(report)
    assert sum(check_coco(path, tmp_path, limit=None).modes.values()) == 3
