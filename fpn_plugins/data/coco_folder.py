"""Find a split of a COCO-format data set in a folder, and read its annotation file.

Four layouts are recognized:

    COCO      annotations/instances_train2017.json   train2017/
    plain     annotations/instances_train.json       train/ or images/train/ or images/
    short     annotations/train.json                 train/ or images/train/ or images/
    Roboflow  train/_annotations.coco.json           images in the same folder; `valid/` for validation
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..checks import one_of
from ..files import suffix_of
from .json_values import is_id, mix_types

_KEYS = ("images", "annotations", "categories")
_assumed: ContextVar[tuple[str, ...]] = ContextVar("assumed categories", default=())


@dataclass(frozen=True)
class CocoSplit:
    """One split of a COCO-format data set.

    Attributes:
        ann_file: annotation file.
        image_dir: folder that the ``file_name`` of each image is relative to.
        categories: names in ascending order of category id; the position is the class index of the model.
    """

    ann_file: Path
    image_dir: Path
    categories: tuple[str, ...]


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        keys = ", ".join(f"{key!r} ({type(value).__name__})" for key, value in list(content.items())[:8])
        return f"an object with {keys or 'no keys'}"
    if isinstance(content, list):
        return f"a list of {len(content)}"
    return f"a single {type(content).__name__}"


def read_coco(ann_file: str | os.PathLike[str], annotated: bool = True, named: bool = False) -> dict[str, Any]:
    """Read an annotation file and check that it is a COCO object-detection file.

    Args:
        ann_file: annotation file.
        annotated: require annotations; COCO's files for test images have none.
        named: require categories alone, for their names.

    Returns:
        Content of the file; ``images``, ``annotations`` and ``categories`` are lists of dicts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not JSON, or lacks one of the three lists; the message describes its content.
    """
    path = Path(ann_file)
    if not path.is_file():
        raise FileNotFoundError(f"ann_file={str(path)!r} does not exist; give the COCO annotation file (.json)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"ann_file={str(path)!r} is not JSON ({error}); give the COCO annotation file") from error
    if isinstance(content, dict):
        for key in _KEYS[:2] if named else () if annotated else ("annotations",):
            content.setdefault(key, [])
    lists = content if isinstance(content, dict) else {}
    bad = [
        key
        for key in _KEYS
        if not isinstance(lists.get(key), list) or not all(isinstance(entry, dict) for entry in lists[key])
    ]
    if bad:
        raise ValueError(
            f"ann_file={str(path)!r} is not a COCO object-detection file: it is {_describe(content)}; expected an "
            f"object with the lists of objects {', '.join(map(repr, _KEYS))} (wrong or absent: {', '.join(bad)}). "
            "Files of results or captions do not have these lists; give the ground truth, often instances_*.json"
        )
    return content


def category_names(content: dict[str, Any]) -> tuple[str, ...]:
    """Return the category names of a file's content (see `read_coco`) in ascending order of id.

    Raises:
        ValueError: a category without ``id`` or without a ``name``, or ids of which only some are texts.
    """
    for category in content["categories"]:
        if not is_id(category.get("id")) or not isinstance(category.get("name"), str):
            raise ValueError(f"category {category!r} is malformed; expected an integer 'id' and a string 'name'")
    ids = [category["id"] for category in content["categories"]]
    if mix_types(ids):
        raise ValueError(f"category ids {ids!r} mix texts and numbers; write all of them as integers")
    return tuple(category["name"] for category in sorted(content["categories"], key=lambda category: category["id"]))


def known_ids(ann_file: str | os.PathLike[str], classes: Sequence[str]) -> tuple[int, ...]:
    """Return the category id of each class in an annotation file; nothing if it is missing or has other categories.

    Of a panoptic file, the categories are its things.
    """
    path = Path(ann_file)
    try:
        content = read_coco(path, named=True) if suffix_of(path) == ".json" else {"categories": []}
    except (OSError, ValueError):
        return ()
    things = [category for category in content["categories"] if category.get("isthing", 1)]
    ids = {category.get("name"): category.get("id") for category in things}
    found = tuple(ids[name] for name in classes if isinstance(ids.get(name), int))
    return found if len(found) == len(classes) == len(things) else ()


def read_categories(ann_file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the category names of a COCO annotation file in ascending order of id; the position is the class index.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a COCO object-detection file, or a category is malformed.
    """
    path = Path(ann_file)
    if not path.is_file():
        return category_names(read_coco(path))  # raises
    return _categories(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _categories(path: Path, changed: int) -> tuple[str, ...]:
    """Cache the names by modification time: COCO's file takes ten seconds to read."""
    return category_names(read_coco(path))


@contextmanager
def assumed_categories(names: Sequence[str]) -> Iterator[None]:
    """Let `find_split` describe a data set that is not there, or has more or fewer categories, by ``names`` alone.

    A config that reads its number of classes from a data folder can so be built for a checkpoint without the folder.
    Without names, nothing changes.
    """
    token = _assumed.set(tuple(names))
    try:
        yield
    finally:
        _assumed.reset(token)


def _candidates(root: Path, split: str) -> list[tuple[Path, Path]]:
    """List pairs of annotation file and image folder, in order of preference."""
    annotations = root / "annotations"
    folders = [split, "valid"] if split == "val" else [split]
    return [
        (annotations / f"instances_{split}2017.json", root / f"{split}2017"),
        *(
            (annotations / f"{name}.json", folder)
            for name in (f"instances_{split}", split)
            for folder in (root / split, root / "images" / split, root / "images")
        ),
        *((root / folder / "_annotations.coco.json", root / folder) for folder in folders),
    ]


def _contents(root: Path) -> str:
    entries = [
        path.relative_to(root).as_posix() + ("/" if path.is_dir() else "")
        for folder in (root, root / "annotations")
        if folder.is_dir()
        for path in sorted(folder.iterdir())[:12]
    ]
    return ", ".join(entries) or "nothing"


def find_split(root: str | os.PathLike[str], split: str) -> CocoSplit:
    """Find the annotation file and the image folder of a split.

    Args:
        root: folder of the data set.
        split: ``"train"`` or ``"val"``.

    Returns:
        Split in the first layout whose annotation file and image folder both exist; see `assumed_categories`.

    Raises:
        ValueError: another ``split``, or a file that is not a COCO object-detection file.
        FileNotFoundError: no layout matches; the message lists the expected files and the content of the folder.
    """
    one_of("split", split, ("train", "val"))
    root, assumed = Path(root), _assumed.get()
    if not assumed:
        return _find_split(root, split)
    try:
        found = _find_split(root, split)
    except (OSError, ValueError):
        found = None
    if found is not None and len(found.categories) == len(assumed):
        return found
    return CocoSplit(root / "no annotations.json", root, assumed)


def _find_split(root: Path, split: str) -> CocoSplit:
    if not root.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is not a folder; give the folder of a COCO-format data set (configs read it from the "
            "environment variable FPN_PLUGINS_COCO)"
        )
    candidates = _candidates(root, split)
    for ann_file, image_dir in candidates:
        if ann_file.is_file() and image_dir.is_dir():
            return CocoSplit(ann_file, image_dir, read_categories(ann_file))
    wanted = "\n".join(f"  {a.relative_to(root)} with {i.relative_to(root)}/" for a, i in candidates)
    raise FileNotFoundError(
        f"root={str(root)!r} has no split {split!r} in a known layout; looked for\n{wanted}\n"
        f"but it holds {_contents(root)}. {_remedy(root)}"
    )


def _remedy(root: Path) -> str:
    """Say what makes a folder one of the layouts."""
    kinds = {"YOLO": ("*.yaml", "labels"), "Pascal VOC": ("Annotations/*.xml", "*.xml")}
    for kind, patterns in kinds.items():
        if not (root / "annotations").is_dir() and any(next(root.glob(pattern), None) for pattern in patterns):
            return f"Its labels look like {kind}'s: convert them to COCO's format (docs/guides/own_data.md#layouts)"
    return "Rename or link the files to one of these layouts"
