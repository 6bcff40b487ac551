"""COCO-format folders in Detectron2's catalogs."""

from __future__ import annotations

import os
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from ...data import find_split

ENVIRONMENT_VARIABLE = "FPN_PLUGINS_COCO"


def register_coco_folder(root: str | os.PathLike[str], name: str = "coco_folder") -> tuple[str, str]:
    """Register the splits of a COCO-format folder as ``{name}_train`` and ``{name}_val``.

    Args:
        root: a folder that `fpn_plugins.data.find_split` understands.
        name: prefix of the two names; names that are registered already are left as they are.

    Returns:
        The two names.

    Raises:
        FileNotFoundError: a split is missing; says where it was looked for.
    """
    names = []
    for split in ("train", "val"):
        found = find_split(Path(root), split)
        names.append(f"{name}_{split}")
        if names[-1] not in DatasetCatalog:
            register_coco_instances(names[-1], {}, str(found.ann_file), str(found.image_dir))
    return names[0], names[1]


def register_from_environment() -> None:
    """Register the folder that the environment variable ``FPN_PLUGINS_COCO`` names, if it is set."""
    root = os.environ.get(ENVIRONMENT_VARIABLE)
    if root:
        register_coco_folder(root)
