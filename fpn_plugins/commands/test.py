"""Evaluate with MMDetection: check the data, then run mmdet's own ``tools/test.py``.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--show-dir DIR] [--cfg-options k=v ...]

CONFIG is a file, ``fpn_plugins::mmdet/NAME`` or ``mmdet::NAME``. The script that runs and its command line
(``--help``) are mmdet's own. ``--tta`` merges masks, too (``fpn_plugins.MaskTTAModel``), which mmdet's model refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from .train import run_script


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate; arguments are those of mmdet's ``tools/test.py``."""
    run_script("test.py", argv, __doc__)
