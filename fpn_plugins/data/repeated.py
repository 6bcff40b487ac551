"""Repeat the randomness of augmentation, so that a feature cache finds an image again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..checks import integer, positive_int
from ..extras import needed_for

with needed_for("repeated random numbers"):
    import numpy as np


class RepeatedRandomness:
    """Random numbers that depend on an image and on one of a few variants.

    Args:
        variants: different augmentations of each image; the variant is drawn at random each time.
        seed: another seed makes other variants.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: ``variants`` below 1, or a negative ``seed``.
    """

    def __init__(self, variants: int = 1, seed: int = 0) -> None:
        self.variants, self.seed = positive_int("variants", variants), integer("seed", seed, 0)

    @contextmanager
    def of(self, image: object) -> Iterator[int]:
        """Seed Python's, NumPy's and PyTorch's generators in the block, restore them after it; yield the variant.

        Args:
            image: name or number of the image; other images have other random numbers.
        """
        variant = random.randrange(self.variants)
        before = random.getstate(), np.random.get_state()
        drawn = random.Random(f"{self.seed} {variant} {image}").getrandbits(32)
        try:
            with torch.random.fork_rng(devices=[]):
                random.seed(drawn)
                np.random.seed(drawn)
                torch.default_generator.manual_seed(drawn)
                yield variant
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
