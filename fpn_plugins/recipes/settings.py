"""Settings of the named recipes; ``docs/recipes.md`` shows what they were measured to give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How much a recipe trains and varies the images.

    Attributes:
        meant_for: numbers of training images that the recipe is meant for.
        epochs: default length in passes over the training images.
        least_iterations: default length is at least that many iterations.
        scales: smallest and largest size of training images, relative to the size in evaluation.
        frozen_stages: stages of a pretrained backbone that are not trained.
        backbone_rate: learning rate of a pretrained backbone, relative to the rest.
        photometric: change brightness, contrast and colors of training images.
        patience: evaluations without a better AP after which the training ends.
    """

    meant_for: tuple[int, int]
    epochs: int
    least_iterations: int
    scales: tuple[float, float]
    frozen_stages: int
    backbone_rate: float
    photometric: bool
    patience: int


SETTINGS = {
    "few": Settings((1, 60), 120, 600, (0.7, 1.4), 2, 0.3, True, 8),
    "small": Settings((40, 2500), 36, 1200, (0.8, 1.25), 1, 0.3, False, 6),
    "standard": Settings((1500, 10**9), 24, 3000, (0.8, 1.25), 1, 0.1, False, 5),
}
DETECTORS = ("retinanet", "faster_rcnn", "mask_rcnn")
RATE, RATE_BATCH, RATE_CHANNELS = 1e-3, 4, 64  # AdamW's rate for a batch and a width; it goes with sqrt(batch / width)
WEIGHT_DECAY = 0.05
WARMUP_FACTOR = 0.01
COLORS = (0.7, 1.3)  # factors of brightness, contrast and saturation
MIN_DELTA = 0.001  # of AP from 0 to 1: less counts as no improvement
TARGET = {"cpu": 22, "cuda": 32}  # pixels that the small objects of a data set (5 % quantile) get
LEAST_OBJECT = 8  # pixels: smaller objects cover a single position of the finest map or none
MOST_SIDES = {"cpu": (480, 640), "cuda": (800, 1333)}
CHANNELS = {"cpu": 64, "cuda": 256}
MULTIPLE = 16  # of the shorter side
LEAST_SIDE = 64
