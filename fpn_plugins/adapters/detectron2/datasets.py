"""Register COCO-format folders in Detectron2's catalogs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_coco_panoptic_separated
from detectron2.data.detection_utils import read_image

from ...data import PanopticSplit, environment_folder, environment_splits, find_panoptic_split, find_split
from ...data.environment import VARIABLE


def register_coco_folder(root: str | os.PathLike[str], name: str = "coco_folder") -> tuple[str, str]:
    """Register the splits of a COCO-format folder as ``{name}_train`` and ``{name}_val``.

    Boxes become floats: Detectron2's own ``register_coco_instances`` keeps integers, and its ``DatasetMapper`` then
    truncates the fractions that result from resizing.

    Args:
        root: folder in a layout of `fpn_plugins.data.find_split`.
        name: prefix of the two names; names registered for another folder are registered again.

    Returns:
        The two names.

    Raises:
        FileNotFoundError: a split is missing; lists the expected files.
    """
    names = []
    for split in ("train", "val"):
        found = find_split(Path(root), split)
        names.append(register_coco_split(f"{name}_{split}", found.ann_file, found.image_dir))
    return names[0], names[1]


def register_coco_split(name: str, ann_file: str | os.PathLike[str], image_dir: str | os.PathLike[str]) -> str:
    """Register one annotation file as `register_coco_folder` does, and return its name.

    Args:
        name: name of the data set; one registered for another file is registered again.
        ann_file: COCO annotation file.
        image_dir: folder that the ``file_name`` of each image is relative to.
    """
    if _unregister_outdated("json_file", Path(ann_file), name):
        register_coco_instances(name, {}, str(ann_file), str(image_dir))
        _keep_fractions(name)
    return name


def _unregister_outdated(key: str, ann_file: Path, *names: str) -> bool:
    """Remove names that are registered for another file than ``ann_file``; return whether they are free now."""
    if names[0] not in DatasetCatalog:
        return True
    if MetadataCatalog.get(names[0]).get(key) == str(ann_file):
        return False
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    return True


def register_coco_panoptic_folder(root: str | os.PathLike[str], name: str = "coco_panoptic_folder") -> tuple[str, str]:
    """Register the splits of a panoptic COCO folder as ``{name}_train_separated`` and ``{name}_val_separated``.

    "Separated" is Detectron2's term for the training data of its Panoptic FPN: instances, and semantic labels in which
    all things are class 0. The semantic labels alone are registered too, as ``{name}_{split}_stuffonly``. ``root`` is
    in the layout of `fpn_plugins.data.find_panoptic_split`, which documents the errors; see `register_coco_folder`.
    """
    names = []
    for split in ("train", "val"):
        found = find_panoptic_split(Path(root), split)
        prefix = f"{name}_{split}"
        names.append(f"{prefix}_separated")
        if _unregister_outdated("panoptic_json", found.ann_file, names[-1], f"{prefix}_stuffonly"):
            files = (found.image_dir, found.mask_dir, found.ann_file, found.stuff_dir, found.instances_file)
            register_coco_panoptic_separated(prefix, _panoptic_metadata(found), *map(str, files))
            _keep_fractions(names[-1])
    return names[0], names[1]


def _keep_fractions(name: str) -> None:
    """Convert the boxes of a registered data set to floats, which Detectron2 resizes without truncation."""
    load = DatasetCatalog.pop(name)

    def load_floats() -> list[dict[str, Any]]:
        entries = load()
        for annotation in (annotation for entry in entries for annotation in entry.get("annotations", ())):
            annotation["bbox"] = [float(side) for side in annotation["bbox"]]
        return entries

    DatasetCatalog.register(name, load_floats)


def _panoptic_metadata(found: PanopticSplit) -> dict[str, object]:
    """Build names and contiguous ids of things (from 0) and stuff (from 1, because 0 is all things)."""
    return {
        "thing_classes": list(found.things.values()),
        "thing_dataset_id_to_contiguous_id": {number: index for index, number in enumerate(found.things)},
        "stuff_classes": ["things", *found.stuff.values()],
        "stuff_dataset_id_to_contiguous_id": {0: 0, **{number: k for k, number in enumerate(found.stuff, start=1)}},
    }


def load_stuff_labels(filename: str, dtype: Any = int) -> Any:
    """Read the labels of a gray PNG as a NumPy array ``H W``, for ``SemSegEvaluator(sem_seg_loading_fn=...)``.

    Detectron2's default requests an array without a copy, which NumPy 2 refuses for an image.
    """
    return read_image(filename, "L").squeeze(2).astype(dtype)


def register_from_environment() -> None:
    """Register the folder named by the environment variable ``FPN_PLUGINS_COCO``, if it is set."""
    if os.environ.get(VARIABLE):
        environment_splits()
        register_coco_folder(environment_folder())
