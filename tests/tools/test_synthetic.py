"""The synthetic set: annotations agree with each other and with pycocotools, and arguments determine the set."""

import importlib
import importlib.util
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from synthetic.dataset import make_synthetic_coco
from synthetic.masks import encode_rle, rasterize, trace_polygons
from synthetic.scene import MIN_VISIBLE_PIXELS, annotate, draw_scene
from synthetic.shapes import CATEGORIES, paint_object, polygon_area, unit_outline

from fpn_plugins.data import check_coco
from fpn_plugins.data.coco_report import size_class

# with this seed, the first 12 images include an empty one, a crowd region and portraits
SEED = 6
SMALL = {"num_train": 12, "num_val": 3, "seed": SEED, "progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    make_synthetic_coco(folder, workers=2, **SMALL)
    return folder


@pytest.fixture(scope="module")
def coco(root):
    from pycocotools.coco import COCO

    return COCO(root / "annotations" / "instances_train2017.json")


def annotation_bytes(root: Path) -> list[bytes]:
    return [(root / "annotations" / f"instances_{split}2017.json").read_bytes() for split in ("train", "val")]


def test_box_and_area_match_the_mask(coco):
    from pycocotools import mask as mask_api

    kinds = Counter()
    for annotation in coco.dataset["annotations"]:
        rle = coco.annToRLE(annotation)
        kinds[type(annotation["segmentation"]), annotation["iscrowd"]] += 1
        assert annotation["area"] == mask_api.area(rle), annotation
        assert annotation["bbox"] == mask_api.toBbox(rle).tolist(), annotation
    assert set(kinds) == {(list, 0), (dict, 1)}, kinds
    polygons = [a["segmentation"] for a in coco.dataset["annotations"] if not a["iscrowd"]]
    assert sum(len(polygon) > 80 for found in polygons for polygon in found) > 10  # traced ones


def test_masks_do_not_overlap(coco):
    for image_id in coco.getImgIds():
        masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]
        assert not masks or np.sum(masks, axis=0).max() == 1, f"image {image_id}"


def test_set_holds_empty_portrait_and_crowd_images(coco):
    images, annotations = coco.dataset["images"], coco.dataset["annotations"]
    assert {annotation["image_id"] for annotation in annotations} < {image["id"] for image in images}
    assert {(image["width"], image["height"]) for image in images} == {(320, 240), (240, 320)}
    assert any(annotation["iscrowd"] for annotation in annotations)


def test_files_match_their_records(root, coco):
    from PIL import Image

    for record in coco.dataset["images"]:
        with Image.open(root / "train2017" / record["file_name"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (record["width"], record["height"]))


def test_objects_contrast_with_their_surroundings(root, coco):
    """The image shows an object at its annotation; painting with an offset fails this test."""
    from PIL import Image

    contrasts = []
    for record in coco.dataset["images"]:
        pixels = np.asarray(Image.open(root / "train2017" / record["file_name"]), dtype=float)
        step = np.abs(np.diff(pixels, axis=1)).sum(axis=2)
        for annotation in coco.imgToAnns[record["id"]]:
            contour = np.diff(coco.annToMask(annotation).astype(int), axis=1) != 0
            contrasts.append(step[contour].mean() / step.mean())
    assert min(contrasts) > 1.5 and np.median(contrasts) > 5, (min(contrasts), np.median(contrasts))


def test_default_set_covers_all_size_classes_and_categories():
    for split, (count, least) in enumerate([(400, 200), (100, 50)]):
        sizes, categories, numbers = Counter(), Counter(), []
        for index in range(count):
            annotations = annotate(draw_scene(np.random.default_rng([0, split, index]), (320, 240)))
            objects = [annotation for annotation in annotations if not annotation["iscrowd"]]
            sizes.update(size_class(annotation["area"]) for annotation in objects)
            categories.update(annotation["category_id"] for annotation in objects)
            numbers.append(len(objects))
        assert min(sizes[name] for name in ("small", "medium", "large")) >= least, sizes
        assert set(categories) == {1, 2, 3, 4} and min(categories.values()) > 0.2 * sum(numbers), categories
        assert max(numbers) == 10 and 0 < numbers.count(0) < 0.1 * count


@pytest.mark.parametrize("index", range(30))
def test_every_placed_object_keeps_a_visible_part(index):
    scene = draw_scene(np.random.default_rng([5, index]), (200, 100))
    for number, placed in enumerate(scene.objects):
        visible = np.count_nonzero(scene.owner == number)
        whole = abs(np.linalg.det(placed.axes))
        assert placed.is_crowd or visible >= max(MIN_VISIBLE_PIXELS, 0.25 * whole)


@pytest.mark.parametrize("category", CATEGORIES)
def test_colors_contrast_with_the_background(category):
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    for seed in range(20):
        rng = np.random.default_rng(seed)
        canvas = np.full((40, 40, 3), rng.uniform(50, 200, size=3))
        before = canvas.copy()
        paint_object(canvas, mask, category, np.array([20.0, 20.0]), 20 * np.eye(2), rng)
        distance = np.linalg.norm(canvas - before, axis=2)
        assert distance[mask].mean() > 80 and not distance[~mask].any(), f"seed {seed}"
        # two colors: the pattern shows the category
        assert np.linalg.norm(canvas[mask].max(axis=0) - canvas[mask].min(axis=0)) > 100, f"seed {seed}"


@pytest.mark.parametrize("category", CATEGORIES)
def test_outline_has_unit_area(category):
    assert polygon_area(unit_outline(category)) == pytest.approx(1)


def test_unknown_outline_is_an_error():
    with pytest.raises(ValueError, match="'hexagon' is unknown; expected one of disc, box"):
        unit_outline("hexagon")


@pytest.mark.parametrize("first", [0, 1])
def test_pycocotools_reads_our_rle(first):
    from pycocotools import mask as mask_api

    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    mask[0, 0] = first
    assert np.array_equal(mask_api.decode(mask_api.frPyObjects(encode_rle(mask), 7, 5)), mask)


def test_traced_polygons_cover_exactly_the_mask():
    """Several parts, holes, parts in holes, and pixels that touch at a corner."""
    from pycocotools import mask as mask_api

    rng = np.random.default_rng(0)
    ring = np.pad(np.pad(np.pad(np.ones((2, 2), bool), 1), 1, constant_values=True), 1)
    for mask in [ring, *(rng.random((9, 7)) < share for share in np.linspace(0.1, 1, 100))]:
        polygons = mask_api.frPyObjects(trace_polygons(mask), *mask.shape)
        assert np.array_equal(mask_api.decode(mask_api.merge(polygons)), mask), mask.astype(int)
    assert len(trace_polygons(ring)) == 4  # two halves of the ring, two of the square in it
    assert trace_polygons(np.ones((2, 3), bool)) == [[0.01, 0.01, 2.99, 0.01, 2.99, 1.99, 0.01, 1.99]]


def test_rasterization_covers_whole_pixels():
    mask = rasterize(np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]]), 6, 8)
    assert np.argwhere(mask).tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]


def test_same_seed_same_bytes_for_any_number_of_workers(root, tmp_path):
    make_synthetic_coco(tmp_path / "again", workers=1, **SMALL)
    assert annotation_bytes(tmp_path / "again") == annotation_bytes(root)
    for path in sorted(root.glob("*2017/*.jpg")):
        assert (tmp_path / "again" / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_another_seed_gives_another_set(root, tmp_path):
    make_synthetic_coco(tmp_path / "other", **{**SMALL, "seed": SEED + 1})
    assert all(a != b for a, b in zip(annotation_bytes(tmp_path / "other"), annotation_bytes(root), strict=True))


def test_training_and_validation_images_differ(root):
    train, val = (json.loads(content)["annotations"] for content in annotation_bytes(root))
    assert [a["bbox"] for a in train[:5]] != [a["bbox"] for a in val[:5]]


def test_finished_set_is_left_alone(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    splits = make_synthetic_coco(root, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert splits["val"].categories == CATEGORIES and splits["val"].image_dir == root / "val2017"


def test_interrupted_set_is_finished(root, tmp_path, monkeypatch):
    from synthetic import dataset

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, "_coco_json", fail)
        make_synthetic_coco(tmp_path / "set", **SMALL)
    assert not list((tmp_path / "set" / "annotations").iterdir())
    make_synthetic_coco(tmp_path / "set", **SMALL)
    assert annotation_bytes(tmp_path / "set") == annotation_bytes(root)


def test_lost_image_is_drawn_again(tmp_path):
    arguments = {**SMALL, "num_train": 2, "num_val": 1}
    make_synthetic_coco(tmp_path, **arguments)
    lost = tmp_path / "train2017" / "000000000002.jpg"
    content = lost.read_bytes()
    lost.unlink()
    make_synthetic_coco(tmp_path, **arguments)
    assert lost.read_bytes() == content


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(ValueError, match=r"something else than a synthetic set .*thesis\.txt"):
        make_synthetic_coco(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_set_of_other_arguments_is_refused(root):
    before = annotation_bytes(root)
    with pytest.raises(ValueError, match="synthetic set of other arguments"):
        make_synthetic_coco(root, **{**SMALL, "num_val": 4})
    assert annotation_bytes(root) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_train": 0}, ValueError, "num_train=0 is too small"),
        ({"num_val": 2.5}, TypeError, "num_val=2.5 is a float"),
        ({"seed": -1}, ValueError, "seed=-1 is too small"),
        ({"workers": 0}, ValueError, "workers=0 is too small"),
        ({"image_size": 320}, ValueError, "image_size=320 is not a pair"),
        ({"image_size": (320, 40)}, ValueError, "image_size=40 is too small; expected an integer >= 64"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        make_synthetic_coco(tmp_path / "set", **{**SMALL, **arguments})
    assert not (tmp_path / "set").exists()


def test_check_accepts_the_set(root):
    report = check_coco(root / "annotations/instances_train2017.json", root / "train2017", CATEGORIES)
    assert (report.images, report.boxes_outside, report.without_mask) == (12, 0, 0)
    assert report.crowd >= 1 and report.empty_images >= 1


@pytest.mark.parametrize("name", ["data.make_synthetic_coco", "data.scene"])
def test_the_old_import_path_names_the_new_place(name):
    with pytest.raises(ImportError, match=rf"fpn_plugins\.{name} is now in tools/synthetic/ of the source tree"):
        importlib.import_module(f"fpn_plugins.{name}")


def test_command_line(tmp_path, capsys):
    path = Path(__file__).parents[2] / "tools" / "make_synthetic_coco.py"
    spec = importlib.util.spec_from_file_location("make_synthetic_coco_tool", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    command = [str(tmp_path / "set"), "--num-train", "2", "--num-val", "1", "--size", "64", "96"]
    assert tool.main(command) == 0
    assert capsys.readouterr().out.count("small/medium/large") == 2
    assert tool.main([*command, "--seed", "-1"]) == 1
    assert capsys.readouterr().err.startswith("error: seed=-1")
    assert tool.main([str(tmp_path / "panoptic"), *command[1:], "--panoptic"]) == 0
    assert (tmp_path / "panoptic/annotations/panoptic_train2017/000000000002.png").is_file()


def test_objects_hide_in_the_colors_and_glow_in_the_infrared(root, tmp_path):
    """With the same annotations as the set of colors."""
    from fpn_plugins.data import PixelReader, read_pixels

    make_synthetic_coco(tmp_path, infrared=True, **SMALL)
    annotations = [json.loads(content)["annotations"] for content in annotation_bytes(tmp_path)]
    assert annotations == [json.loads(content)["annotations"] for content in annotation_bytes(root)]
    splits = make_synthetic_coco(tmp_path, infrared=True, **SMALL)  # complete
    check_coco(splits["train"].ann_file, splits["train"].image_dir, reader=PixelReader(4, 4095))
    steps = []
    for path in sorted((tmp_path / "train2017").iterdir()):
        pixels = read_pixels(path)
        assert pixels.dtype == np.uint16 and pixels.shape[2] == 4 and pixels.max() <= 4095
        largest = np.percentile(np.abs(np.diff(pixels.astype(float), axis=1)), 99.5, axis=(0, 1))
        steps.append(largest[3] / largest[:3].max())
    assert np.median(steps) > 2, steps
    with pytest.raises(ValueError, match="panoptic=True, infrared=True: .*choose one"):
        make_synthetic_coco(tmp_path / "both", infrared=True, panoptic=True, **SMALL)
