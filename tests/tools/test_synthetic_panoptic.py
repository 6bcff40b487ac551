"""The panoptic synthetic set: PNGs, segments, instances and stuff labels agree, and the plain set stays the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic.dataset import make_synthetic_coco
from synthetic.panoptic import ids_as_rgb, panoptic_segments
from synthetic.scene import draw_scene
from synthetic.shapes import CATEGORIES
from synthetic.stuff import STUFF, draw_stuff, paint_stuff

from fpn_plugins.data import find_panoptic_split

# with this seed, the first 12 images include an empty one, a crowd region and portraits
SMALL = {"num_train": 12, "num_val": 3, "seed": 6, "progress": False, "panoptic": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panoptic") / "set"
    make_synthetic_coco(folder, workers=2, **SMALL)
    return folder


@pytest.fixture(scope="module")
def images(root):
    """Panoptic annotation, segment ids, stuff labels and instances of each training image."""
    from PIL import Image

    found = find_panoptic_split(root, "train")
    instances = json.loads(found.instances_file.read_text())["annotations"]
    rows = []
    for annotation in json.loads(found.ann_file.read_text())["annotations"]:
        pixels = np.asarray(Image.open(found.mask_dir / annotation["file_name"])).astype(int)
        stuff = np.asarray(Image.open(found.stuff_dir / annotation["file_name"]))
        own = [instance for instance in instances if instance["image_id"] == annotation["image_id"]]
        rows.append((annotation, pixels @ [1, 256, 65536], stuff, own))
    return rows


def test_segments_match_the_png(images):
    for annotation, ids, _, _ in images:
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert len(segments) == len(annotation["segments_info"])
        assert set(np.unique(ids)) == set(segments)  # every pixel has a segment, every segment a pixel
        for number, segment in segments.items():
            ys, xs = np.nonzero(ids == number)
            assert segment["area"] == len(xs)
            x, y, width, height = segment["bbox"]
            assert (x, y, x + width, y + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_things_are_the_instances(images):
    def facts(entries):
        return sorted((e["category_id"], e["iscrowd"], e["area"], e["bbox"]) for e in entries)

    for annotation, _, _, instances in images:
        things = [s for s in annotation["segments_info"] if s["category_id"] <= len(CATEGORIES)]
        assert facts(things) == facts(instances)
    assert any(instance["iscrowd"] for *_, instances in images for instance in instances)
    assert any(not instances for *_, instances in images)


def test_stuff_labels_are_the_stuff_segments(images):
    seen = set()
    for annotation, ids, stuff, _ in images:
        wanted = np.zeros_like(stuff)
        for segment in annotation["segments_info"]:
            if segment["category_id"] > len(CATEGORIES):
                wanted[ids == segment["id"]] = segment["category_id"] - len(CATEGORIES)
        assert np.array_equal(stuff, wanted)
        seen |= set(np.unique(stuff).tolist())
    assert seen == {0, 1, 2, 3}


def test_instances_match_the_plain_set(root, tmp_path):
    make_synthetic_coco(tmp_path / "plain", **{**SMALL, "panoptic": False})
    for split in ("train", "val"):
        name = Path("annotations") / f"instances_{split}2017.json"
        assert (root / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not list((tmp_path / "plain").rglob("*panoptic*")) and not list((tmp_path / "plain").rglob("*.png"))
    with pytest.raises(ValueError, match="synthetic set of other arguments"):
        make_synthetic_coco(tmp_path / "plain", **SMALL)


def test_same_seed_same_bytes_for_any_number_of_workers(root, tmp_path):
    make_synthetic_coco(tmp_path / "again", workers=1, **SMALL)
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert len([path for path in files if path.suffix == ".png"]) == 2 * (12 + 3)
    assert all((tmp_path / "again" / path).read_bytes() == (root / path).read_bytes() for path in files)


@pytest.mark.parametrize(
    "lost", ["annotations/panoptic_train2017/000000000002.png", "annotations/panoptic_val2017.json"]
)
def test_lost_file_is_written_again(tmp_path, lost):
    arguments = {**SMALL, "num_train": 2, "num_val": 1}
    make_synthetic_coco(tmp_path, **arguments)
    content = (tmp_path / lost).read_bytes()
    (tmp_path / lost).unlink()
    make_synthetic_coco(tmp_path, **arguments)
    assert (tmp_path / lost).read_bytes() == content


def test_bands_are_one_to_three_of_each_kind():
    drawn = [draw_stuff(60, 80, np.random.default_rng(seed)) for seed in range(60)]
    assert all(stuff.shape == (60, 80) and stuff.dtype == np.uint8 for stuff in drawn)
    kinds = [frozenset(np.unique(stuff).tolist()) for stuff in drawn]
    assert {len(found) for found in kinds} == {1, 2, 3} and set().union(*kinds) == {0, 1, 2}
    shares = np.mean([[np.mean(stuff == kind) for kind in range(len(STUFF))] for stuff in drawn], axis=0)
    assert shares.min() > 0.2, shares


def test_each_kind_has_its_own_pattern():
    """Plain is flat, and lines and dots differ in direction within a few pixels, as a network sees them."""
    surfaces = []
    for kind in range(len(STUFF)):
        canvas = np.full((54, 54, 3), 100.0)
        paint_stuff(canvas, np.full((54, 54), kind, dtype=np.uint8))
        spectrum = np.abs(np.fft.fft2(canvas[..., 0] - canvas[..., 0].mean()))
        surfaces.append((canvas.std(), spectrum[6, 6], spectrum[6, 0]))  # along the diagonal, and along y
    plain, hatched, dotted = surfaces
    assert plain[0] == 0 and min(hatched[0], dotted[0]) > 10
    assert hatched[1] > 10 * max(hatched[2], 1e-6) and dotted[2] > 0.5 * dotted[1]


def test_a_scene_without_stuff_has_no_segments():
    scene = draw_scene(np.random.default_rng(0), (96, 64))
    with pytest.raises(ValueError, match=r"no stuff: set scene\.stuff = draw_stuff"):
        panoptic_segments(scene)


def test_ids_above_255_use_the_other_channels():
    assert ids_as_rgb(np.array([[1, 256, 65536 + 2]])).tolist() == [[[1, 0, 0], [0, 1, 0], [2, 0, 1]]]


def test_missing_parts_of_a_panoptic_set_are_named(tmp_path, root):
    with pytest.raises(FileNotFoundError, match=r"no panoptic split 'train'.*panoptic_train2017\.json.*--panoptic"):
        find_panoptic_split(tmp_path, "train")
    for name in ("annotations/panoptic_val2017", "panoptic_stuff_val2017", "val2017"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("panoptic_val2017.json", "instances_val2017.json"):  # instances in the place of the panoptic file
        (tmp_path / "annotations" / name).write_bytes((root / "annotations/instances_val2017.json").read_bytes())
    with pytest.raises(ValueError, match="not a panoptic annotation file: its categories have no 'isthing'"):
        find_panoptic_split(tmp_path, "val")
