"""One variable that moves every random number of the suite.

``FPN_PLUGINS_TEST_SEED`` (default 0) is added to each seed that a test sets, so a numeric comparison can be repeated on
other numbers. A test whose subject is one particular draw calls `torch.manual_seed` itself.
"""

from __future__ import annotations

import os
import random

import numpy as np
import torch

VARIABLE = "FPN_PLUGINS_TEST_SEED"
LARGEST = 1_000_000
STEP = 1_000  # above every seed that a test sets, so that no two runs share a draw


def base_seed() -> int:
    """The seed of this run.

    Raises:
        ValueError: if the variable holds anything but a whole number from 0 to `LARGEST`.
    """
    text = os.environ.get(VARIABLE, "0")
    if not (text.isascii() and text.isdecimal()) or int(text) > LARGEST:
        raise ValueError(f"{VARIABLE}={text!r} must be a whole number from 0 to {LARGEST}")
    return int(text)


def shifted(number: int) -> int:
    """``number`` moved by the seed of this run; the same number by default."""
    return base_seed() * STEP + number


def seed(number: int = 0) -> None:
    """Seed torch, NumPy and `random`."""
    torch.manual_seed(shifted(number))
    np.random.seed(shifted(number))
    random.seed(shifted(number))


def generator(number: int = 0) -> torch.Generator:
    """Generator of its own, which no other draw disturbs."""
    return torch.Generator().manual_seed(shifted(number))
