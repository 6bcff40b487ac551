"""Write a seeded synthetic data set for instance segmentation at many scales, in COCO's format and folder layout.

It shows in minutes, without a download, whether a neck learns and at which object sizes: four categories that differ in
shape and pattern, 1 to 10 objects per image, small, medium and large objects in COCO's sense, overlaps with exact
visible masks, crowd regions, empty images, landscape and portrait.

    <root>/annotations/instances_train2017.json   <root>/train2017/000000000001.jpg ...
    <root>/annotations/instances_val2017.json     <root>/val2017/000000000001.jpg ...
    <root>/synthetic.json                         arguments of the set, and whether it is complete

With ``panoptic=True`` the background consists of stuff (see `stuff`), and the set also has COCO's panoptic files (see
`panoptic`); objects and instance annotations stay the same. With ``infrared=True``, images are TIFFs of four channels
and 12 bits (see `infrared`).

Masks are polygons, which both toolboxes read by default, and cover exactly the visible pixels; crowd regions are RLE,
as in COCO.
"""

import json
import os
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.files import write_atomically

from .infrared import paint_infrared, write_tiff
from .layout import MARKER, annotation_files, check_image_size, check_integer, image_folders, is_complete
from .panoptic import panoptic_categories, write_panoptic
from .scene import annotate, draw_scene, paint
from .shapes import CATEGORIES
from .stuff import draw_stuff

# increased whenever the same arguments would give different images or annotations
_VERSION = 2
_SPLITS = ("train", "val")


class _Row(NamedTuple):
    """Records of one image: its COCO record, instances without ids, and panoptic segments."""

    record: dict[str, Any]
    annotations: list[dict[str, Any]]
    segments: list[dict[str, Any]]


def _write_image(
    index: int, *, folders: list[Path], seed: int, split_index: int, image_size: tuple[int, int], infrared: bool
) -> _Row:
    """Draw and write image number `index` of a split."""
    from PIL import Image

    # Streams of their own, so that no detail of the painting or of the stuff can change an annotation.
    scene = draw_scene(np.random.default_rng([seed, split_index, index]), image_size)
    name = f"{index + 1:012d}"
    segments = []
    if len(folders) > 1:
        scene.stuff = draw_stuff(scene.height, scene.width, np.random.default_rng([seed, split_index, index, 2]))
        segments = write_panoptic(scene, name, *folders[1:])
    paints = np.random.default_rng([seed, split_index, index, 1])
    file_name = f"{name}.{'tif' if infrared else 'jpg'}"
    with write_atomically(folders[0] / file_name) as temporary:
        if infrared:
            write_tiff(paint_infrared(scene, paints), temporary)
        else:
            Image.fromarray(paint(scene, paints)).save(temporary, format="JPEG", quality=95)
    record = {"id": index + 1, "file_name": file_name, "width": scene.width, "height": scene.height, "license": 1}
    return _Row(record, annotate(scene), segments)


def _coco_json(rows: list[_Row], description: str) -> dict[str, Any]:
    pairs = [(row.record, annotation) for row in rows for annotation in row.annotations]
    return {
        # Fixed, not today's date: the same arguments have to give the same bytes.
        "info": {
            "description": description,
            "version": str(_VERSION),
            "year": 2026,
            "contributor": "fpn_plugins",
            "url": "",
            "date_created": "2026/01/01",
        },
        "licenses": [
            {
                "id": 1,
                "name": "CC0 1.0 Universal",
                "url": "https://creativecommons.org/publicdomain/zero/1.0/",
            }
        ],
        "images": [row.record for row in rows],
        "annotations": [
            {"id": number, "image_id": record["id"], **annotation}
            for number, (record, annotation) in enumerate(pairs, start=1)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"} for number, name in enumerate(CATEGORIES, start=1)
        ],
    }


def _panoptic_json(rows: list[_Row], description: str) -> dict[str, Any]:
    """The same head, with segments in the place of instances."""
    annotations = [
        {
            "image_id": row.record["id"],
            "file_name": row.record["file_name"].replace(".jpg", ".png"),
            "segments_info": row.segments,
        }
        for row in rows
    ]
    return {**_coco_json(rows, description), "annotations": annotations, "categories": panoptic_categories()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _write_split(root: Path, split: str, arguments: dict[str, Any], workers: int, progress: bool) -> None:
    from tqdm import tqdm

    folders = image_folders(root, split, arguments)
    files = annotation_files(root, split, arguments)
    for folder in (*folders, root / "annotations"):
        folder.mkdir(parents=True, exist_ok=True)
    count = arguments[f"num_{split}"]
    write = partial(
        _write_image,
        folders=folders,
        seed=arguments["seed"],
        split_index=_SPLITS.index(split),
        image_size=tuple(arguments["image_size"]),
        infrared="infrared" in arguments,
    )
    # Threads, because numpy and Pillow work outside the interpreter lock: as fast as processes here, and usable from
    # notebooks and from scripts without a `__main__` guard.
    with ThreadPool(min(workers, count)) as pool:
        results = pool.imap(write, range(count))
        rows = list(tqdm(results, total=count, desc=f"synthetic {split}", unit="image", disable=not progress))
    description = f"fpn_plugins synthetic multi-scale shapes, {split}, seed {arguments['seed']}"
    for kind, make in (("instances", _coco_json), ("panoptic", _panoptic_json)):
        if kind in files:
            _write_json(files[kind], make(rows, description))


def make_synthetic_coco(
    root: str | os.PathLike[str],
    num_train: int = 400,
    num_val: int = 100,
    image_size: tuple[int, int] = (320, 240),
    seed: int = 0,
    progress: bool = True,
    workers: int | None = None,
    panoptic: bool = False,
    infrared: bool = False,
) -> dict[str, CocoSplit]:
    """Write the synthetic set, unless it is already complete.

    The same arguments give the same annotations byte for byte for any number of workers; a larger set starts with the
    images of a smaller one. Sides of objects are log-uniform from 8 px to half of the image's longer side, and
    annotations cover exactly the visible pixels (see `scene`). About 3 % of the images are empty, 5 % have a crowd
    region, 20 % are portrait. An interrupted set is written again.

    Args:
        root: folder to write: new, empty, or an earlier set of the same arguments.
        num_train: number of training images, at least 1.
        num_val: number of validation images, at least 1.
        image_size: width and height of a landscape image in px, each at least 64. COCO's large objects (96 x 96 px and
            more) need a longer side above 192 and a shorter one above 128 to appear.
        seed: seed of every random number, at least 0.
        progress: whether to show a progress bar.
        workers: number of threads; None is one per core, at most 8.
        panoptic: whether to paint stuff behind the objects and write COCO's panoptic annotations.
        infrared: whether to write TIFFs of four channels and 12 bits, in whose colors objects hide (see `infrared`).

    Returns:
        `{"train": CocoSplit, "val": CocoSplit}`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small, `root` holds other files, or both `panoptic` and `infrared`; nothing is
            written.
    """
    if panoptic and infrared:
        raise ValueError("panoptic=True, infrared=True: stuff is painted in colors alone; choose one of the two")
    root = Path(root)
    arguments = {
        "version": _VERSION,
        "num_train": check_integer("num_train", num_train, 1),
        "num_val": check_integer("num_val", num_val, 1),
        "image_size": list(check_image_size(image_size)),
        "seed": check_integer("seed", seed, 0),
        **({"panoptic": True} if panoptic else {}),  # absent from the marker of sets without
        **({"infrared": True} if infrared else {}),
    }
    workers = min(os.cpu_count() or 1, 8) if workers is None else check_integer("workers", workers, 1)
    if not is_complete(root, arguments):
        root.mkdir(parents=True, exist_ok=True)
        # written before the first image, so that an interrupted set is recognized
        _write_json(root / MARKER, {"arguments": arguments, "complete": False})
        for split in _SPLITS:
            _write_split(root, split, arguments, workers, progress)
        _write_json(root / MARKER, {"arguments": arguments, "complete": True})
    return {split: find_split(root, split) for split in _SPLITS}
