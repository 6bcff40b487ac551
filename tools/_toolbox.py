"""What the command lines share: where mmdet keeps its own scripts, and errors without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


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


def run_or_exit(main: Callable[[], None]) -> None:
    """Run ``main``; a mistake of the user's ends the program with its message alone, on standard error, and code 1."""
    try:
        main()
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
