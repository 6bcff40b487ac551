"""Find the data set that the environment variable ``FPN_PLUGINS_COCO`` names; configs read it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, overload

from .coco_folder import CocoSplit, find_split

VARIABLE = "FPN_PLUGINS_COCO"
DEFAULT = "data/coco"
Split = TypeVar("Split")


def environment_folder() -> str:
    """Return the folder that ``FPN_PLUGINS_COCO`` names, by default ``data/coco``; it may not exist."""
    return os.environ.get(VARIABLE) or DEFAULT


@overload
def environment_splits() -> tuple[CocoSplit, CocoSplit]: ...


@overload
def environment_splits(find: Callable[[str, str], Split]) -> tuple[Split, Split]: ...


def environment_splits(find: Callable[[str, str], Any] = find_split) -> tuple[Any, Any]:
    """Find the training and validation split of the folder that ``FPN_PLUGINS_COCO`` names, by absolute paths.

    Args:
        find: `find_split`, or `find_panoptic_split`.

    Raises:
        FileNotFoundError: no such folder, or no such split; names the variable.
        ValueError: a file of another format; names the variable.
    """
    folder = environment_folder()
    root = os.path.abspath(folder)  # configs that a training dumps work from any folder
    try:
        return find(root, "train"), find(root, "val")
    except (OSError, ValueError) as error:
        state = f"{VARIABLE}={folder!r}" if os.environ.get(VARIABLE) else f"{VARIABLE} is not set (default {folder!r})"
        kind = FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(f"{state}: set it to the folder of a COCO-format data set; {error}") from error
