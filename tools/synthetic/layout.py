"""Files of a synthetic set, its marker, and checks of its arguments."""

import json
from pathlib import Path
from typing import Any

import numpy as np

MARKER = "synthetic.json"
MIN_IMAGE_SIDE = 64


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Check that an argument is an integer of at least ``minimum``, and return it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected an integer >= {minimum}")
    if value < minimum:
        raise ValueError(f"{name}={value} is too small; expected an integer >= {minimum}")
    return int(value)


def check_image_size(image_size: Any) -> tuple[int, int]:
    """Check a width and height in px, and return them."""
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise ValueError(f"image_size={image_size!r} is not a pair; expected (width, height) in px, like (320, 240)")
    width, height = (check_integer("image_size", side, MIN_IMAGE_SIDE) for side in image_size)
    return width, height


def _read_marker(root: Path) -> dict[str, Any] | None:
    """Marker of an earlier run; None for an absent or empty folder, an error for any other folder."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"root={str(root)!r} is a file; give a folder that is new, empty or an earlier synthetic set")
    if not root.exists() or not any(root.iterdir()):
        return None
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
        return {"arguments": dict(marker["arguments"]), "complete": bool(marker["complete"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"root={str(root)!r} holds something else than a synthetic set (it has no valid {MARKER}, but "
            f"{', '.join(sorted(path.name for path in root.iterdir())[:5])}); nothing was written: give another folder"
        ) from error


def is_complete(root: Path, arguments: dict[str, Any]) -> bool:
    """Whether the set of these arguments is complete; a set of other arguments is an error."""
    marker = _read_marker(root)
    if marker is None:
        return False
    if marker["arguments"] != arguments:
        raise ValueError(
            f"root={str(root)!r} holds a synthetic set of other arguments: {marker['arguments']}, asked for are "
            f"{arguments}; give another folder or delete this one"
        )
    counts = {"train": arguments["num_train"], "val": arguments["num_val"]}
    return marker["complete"] and all(
        all(file.is_file() for file in annotation_files(root, split, arguments).values())
        and all(sum(1 for _ in folder.glob("[0-9]*")) == count for folder in image_folders(root, split, arguments))
        for split, count in counts.items()
    )


def annotation_files(root: Path, split: str, arguments: dict[str, Any]) -> dict[str, Path]:
    """Annotation files of a split by kind."""
    kinds = ("instances", "panoptic") if "panoptic" in arguments else ("instances",)
    return {kind: root / "annotations" / f"{kind}_{split}2017.json" for kind in kinds}


def image_folders(root: Path, split: str, arguments: dict[str, Any]) -> list[Path]:
    """Folders of the images and, in a panoptic set, of segment ids and stuff labels."""
    panoptic = [root / "annotations" / f"panoptic_{split}2017", root / f"panoptic_stuff_{split}2017"]
    return [root / f"{split}2017", *(panoptic if "panoptic" in arguments else ())]
