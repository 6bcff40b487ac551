"""Share code between the commands that run a toolbox's training: determinism, exact resume, errors of checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ..compat import leave_memory_unfilled
from ..sharding import ShardingError
from ..weights.checkpoint import MissingCheckpointError
from ..weights.download import DownloadError
from ..weights.training_state import UnusableCheckpointError
from .common import user_errors

DETERMINISTIC = "FPN_PLUGINS_DETERMINISTIC"
EXACT_RESUME = "FPN_PLUGINS_EXACT_RESUME"
BEFORE = ("log.txt", "config.yaml")  # what Detectron2 writes into the folder of a training before it begins


def checkpoint_errors() -> AbstractContextManager[None]:
    """Do what `user_errors` does, for checkpoints, downloads and sharding alone, while a toolbox trains."""
    return user_errors((UnusableCheckpointError, MissingCheckpointError, DownloadError, ShardingError))


@contextmanager
def forgotten_if_refused(config: str, with_parts: bool) -> Iterator[None]:
    """Remove a recipe's config if its training is refused before it begins, such as for an error in the data.

    The same command would else refuse to replace it, because corrected data can have another plan.

    Args:
        config: config of the recipe.
        with_parts: remove the two parts of ``--val-part``, too.
    """
    try:
        yield
    except SystemExit as stop:
        folder = Path(config).parent
        begun = {path.name for path in folder.parent.iterdir()}.difference((*BEFORE, folder.name))
        if stop.code and not begun:
            parts = ("annotations/train.json", "annotations/val.json", "train", "val")
            for name in (Path(config).name, "anchors.png", *(parts if with_parts else ())):
                (folder / name).unlink(missing_ok=True)
            print(f"removed {config}, with which no training began", file=sys.stderr)
        raise


def resumes_exactly() -> bool:
    """Return whether FPN_PLUGINS_EXACT_RESUME=1."""
    return os.environ.get(EXACT_RESUME) == "1"


def choose_deterministic() -> None:
    """Use deterministic algorithms if FPN_PLUGINS_DETERMINISTIC=1 or for exact resume; operations without one warn."""
    if os.environ.get(DETERMINISTIC) != "1" and not resumes_exactly():
        return
    # cuBLAS reads this when it starts, and it has not started yet
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    leave_memory_unfilled()  # filling takes a tenth of the time on a CPU, and no code reads such memory
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
