"""Evaluate with MMDetection: check the data, then run mmdet's own ``tools/test.py``.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE] [--show-dir DIR] [--cfg-options k=v ...]

CONFIG is a file, ``fpn_plugins::mmdet/NAME`` or ``mmdet::NAME``. The script that runs and its command line
(``--help``) are mmdet's own. ``--tta`` merges masks, too (``fpn_plugins.MaskTTAModel``), which mmdet's model refuses.
``tools/evaluate.py`` takes exported files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..inference.engines import is_exported
from .common import user_errors
from .train import run_script


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate; arguments are those of mmdet's ``tools/test.py``."""
    given = sys.argv[1:] if argv is None else argv
    exported = next((word for word in given if is_exported(word)), None)
    with user_errors():
        if exported is not None:
            raise ValueError(
                f"{exported!r} is an exported detector, and mmdet's script runs a config and a checkpoint; use "
                f"`fpn-plugins evaluate {exported} --root COCO_FOLDER`"
            )
    run_script("test.py", argv, __doc__)
