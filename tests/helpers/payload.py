"""What a malicious checkpoint carries."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Payload:
    """Pickles as a call that creates a folder when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o777)
