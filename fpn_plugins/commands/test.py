"""Evaluate with MMDetection: mmdet's own ``tools/test.py``, after a check of the data.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--show-dir DIR] [--cfg-options k=v ...]

The command line is mmdet's (``--help`` shows it), and so is the script that runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from .train import run_script


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate; arguments are those of mmdet's ``tools/test.py``."""
    run_script("test.py", argv)
