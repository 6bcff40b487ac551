"""What the command lines share: mmdet's own scripts, and errors without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..zoo.records import Cost

# how the launchers tell a process its place on its machine: torchrun, slurm, Open MPI
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
SKIP_CHECK = "FPN_PLUGINS_CHECK_DATA"
DETERMINISTIC = "FPN_PLUGINS_DETERMINISTIC"


def mmdet_script(name: str) -> Path:
    """mmdet's own, unmodified script of that name, from its package or its source tree.

    Raises:
        FileNotFoundError: mmdet was installed without its tools.
    """
    import mmdet

    package = Path(mmdet.__file__).parent
    candidates = [package / ".mim" / "tools" / name, package.parent / "tools" / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"mmdet's tools/{name} is not beside its package ({candidates})")


def checks_data() -> bool:
    """Whether this process is the one of its machine that checks the data; FPN_PLUGINS_CHECK_DATA=0 turns it off."""
    local_rank = next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "0")
    return local_rank == "0" and os.environ.get(SKIP_CHECK) != "0"


def choose_deterministic() -> None:
    """With FPN_PLUGINS_DETERMINISTIC=1, let PyTorch take deterministic algorithms, and warn where there is none."""
    if os.environ.get(DETERMINISTIC) != "1":
        return
    # read when cuBLAS starts, which no process has done here
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # a tenth of the time on a CPU, for what nothing reads
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@contextmanager
def user_errors() -> Iterator[None]:
    """Mistakes of the user's inside end the program with their message alone, on standard error, and code 1."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def count(config: str, size: tuple[int, int]) -> Cost:
    """Cost of inference on one image of ``size`` (height, width in pixels) with the detector of a config."""
    from ..adapters.hosts import detector_cost

    report = detector_cost(config, size)
    total = report.total()
    return Cost(total.parameters, total.macs, list(size), list(report.conditions))
