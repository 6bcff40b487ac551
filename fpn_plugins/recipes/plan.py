"""Plan a training: every choice with its reason, the same for both toolboxes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..checks import integer, one_of, positive_number
from .anchors import Anchors, choose_anchors
from .cameras import Camera, choose_camera
from .folder import TrainingData
from .machine import Machine, seconds_per_iteration
from .network import choose_backbone, choose_neck
from .reasons import explain_anchors, explain_training
from .settings import (
    CHANNELS,
    DETECTORS,
    LEAST_SIDE,
    RATE,
    RATE_BATCH,
    RATE_CHANNELS,
    SETTINGS,
    WEIGHT_DECAY,
    Settings,
)
from .sizes import choose_size, short_sides_of, usual_short

FLIPS = ("horizontal", "all", "none")


@dataclass(frozen=True)
class Recipe:
    """Plan of a training.

    Attributes:
        name: ``"few"``, ``"small"`` or ``"standard"``.
        detector: ``"retinanet"``, ``"faster_rcnn"`` or ``"mask_rcnn"``.
        data: data set.
        backbone: ``{"type": "TimmBackbone", ...}``, as `fpn_plugins.Pyramid` takes it.
        neck: ``{"type": ..., ...}``, as `fpn_plugins.Pyramid` takes it.
        anchors: anchors of the head's levels, or of the region proposals.
        size: shorter and longer side of images in evaluation; ratios of sides are kept.
        short_sides: shorter sides of images in training, one of them at random; the longer ones are limited to the last
            entry times the ratio that ``size`` has for images of median sides.
        flips: ``"horizontal"``, ``"all"`` (horizontal, vertical, and both) or ``"none"``.
        photometric: change brightness, contrast and colors of training images.
        batch: images per iteration.
        workers: processes that read images.
        rate: AdamW's learning rate at its highest.
        backbone_rate: rate of the backbone relative to that.
        weight_decay: decay of all parameters but biases and norms.
        patience: evaluations without a better AP after which the training ends.
        seed: seed of the training.
        device: ``"cpu"`` or ``"cuda"``.
        iterations: length.
        warmup: iterations in which the rate rises from a hundredth; after them it falls as a half cosine, to 0.
        ema: momentum of the running mean of the weights at the end of the training, and the iterations in which it
            falls from 1.
        eval_period: iterations between evaluations.
        camera: reader and statistics of images that the toolboxes' own readers do not read; ``None`` for others.
        reasons: what was chosen, the value, and why.
    """

    name: str
    detector: str
    data: TrainingData
    backbone: dict[str, Any]
    neck: dict[str, Any]
    anchors: Anchors
    size: tuple[int, int]
    short_sides: tuple[int, ...]
    flips: str
    photometric: bool
    batch: int
    workers: int
    rate: float
    backbone_rate: float
    weight_decay: float
    patience: int
    seed: int
    device: str
    iterations: int = 0
    warmup: int = 0
    ema: tuple[float, int] = (0.01, 100)
    eval_period: int = 1
    camera: Camera | None = None
    reasons: tuple[tuple[str, str, str], ...] = ()

    @property
    def channels(self) -> int:
        """Channels of the pyramid."""
        return int(self.neck["out_channels"])

    @property
    def stacked_convs(self) -> int:
        """Convolutions of each branch of RetinaNet's head."""
        return 2 if self.channels <= RATE_CHANNELS else 4

    @property
    def longest(self) -> int:
        """Limit of the longer side of images in training in pixels."""
        return round(self.short_sides[-1] * self.size[1] / usual_short(self.data.sides, self.size))


def plan_recipe(
    data: TrainingData,
    recipe: str,
    *,
    detector: str = "retinanet",
    backbone: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    neck: str = "FPN",
    size: tuple[int, int] | None = None,
    finest: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    flips: str = "horizontal",
    seed: int = 0,
    max_value: float | None = None,
    bands: Sequence[int] | None = None,
    channels_first: bool = False,
    machine: Machine | None = None,
    measure: Callable[..., float] = seconds_per_iteration,
) -> Recipe:
    """Plan a training.

    Args:
        data: result of `read_folder`.
        recipe: ``"few"`` (some dozens of images), ``"small"`` (up to some thousands) or ``"standard"``.
        detector: ``"retinanet"``, ``"faster_rcnn"`` or ``"mask_rcnn"``.
        backbone: timm network; ``None`` is a MobileNetV2 on a CPU and a ResNet-50 on a GPU.
        weights: file of the backbone's weights; ``None`` lets timm download its own.
        neck: neck of this package that takes ``out_channels``.
        size: sides of images in pixels in either order, the shorter and the limit of the longer; ``None`` chooses them.
        finest: stride of the finest map of a RetinaNet, 4 or 8; ``None`` is 8 unless the smallest objects measure less
            than 1.5 of its strides. The other detectors have 4.
        epochs: length in passes over the training images; ``None`` is the recipe's.
        minutes: length in minutes on an idle machine, instead of ``epochs``.
        flips: ``"horizontal"``; ``"all"`` where up and down look alike (microscopes, satellites); or ``"none"``.
        seed: seed of the training, at least 0.
        max_value: value of a full pixel, such as 4095 for a camera of 12 bits; ``None`` is that of the files' type.
            Images that the toolboxes' own readers do not read in full, and all with one of these three options, are
            read by a `fpn_plugins.data.PixelReader`.
        bands: channels of the images to read, in this order, counted from 0; ``None`` reads all.
        channels_first: whether ``.npy`` files hold ``C H W``.
        machine: machine to train on; ``None`` is this one.
        measure: function that measures the seconds of an iteration for ``minutes``.

    Raises:
        ImportError: timm is missing.
        ValueError: an unknown name, a size or length out of range, both ``epochs`` and ``minutes``, objects without
            masks for a Mask R-CNN, a neck whose levels do not fit, or images of different numbers of channels.
    """
    settings = SETTINGS[one_of("recipe", recipe, SETTINGS)]
    one_of("detector", detector, DETECTORS)
    one_of("flips", flips, FLIPS)
    _check(data, detector, size, epochs, minutes)
    machine = machine or Machine.this()
    reasons: list[tuple[str, str, str]] = []
    camera = choose_camera(data.files, max_value, bands, channels_first, reasons)
    chosen_size = choose_size(data, size, machine.device, reasons)
    boxes = data.resized(chosen_size)
    anchors = choose_anchors(detector, boxes, finest)
    network = choose_backbone(backbone, weights, settings.frozen_stages, anchors.strides, machine.device, reasons)
    if camera is not None:  # filters of colors know nothing about other channels
        network |= {"in_chans": camera.reader.in_chans, "frozen_stages": -1}
    channels = CHANNELS[machine.device]
    chosen_neck, anchors = choose_neck(neck, network, anchors, detector, channels, reasons)
    explain_anchors(anchors, boxes, reasons)
    batch = min(machine.batch(chosen_size, channels), data.pictures)
    reasons.append(("batch", f"{batch} images, {machine.workers} reader(s)", f"for {machine}"))
    plan = Recipe(
        *(recipe, detector, data, network, chosen_neck, anchors, chosen_size),
        short_sides=short_sides_of(usual_short(data.sides, chosen_size), settings.scales),
        flips=flips,
        photometric=settings.photometric and camera is None,
        camera=camera,
        batch=batch,
        workers=machine.workers,
        rate=float(f"{RATE * math.sqrt(batch / RATE_BATCH * RATE_CHANNELS / channels):.2g}"),
        backbone_rate=settings.backbone_rate,
        weight_decay=WEIGHT_DECAY,
        patience=settings.patience,
        seed=integer("seed", seed, 0),
        device=machine.device,
    )
    plan = _with_length(plan, settings, epochs, minutes, measure, reasons)
    explain_training(plan, settings, reasons)
    return replace(plan, reasons=tuple(reasons))


def _check(data: TrainingData, detector: str, size: Any, epochs: int | None, minutes: float | None) -> None:
    if detector == "mask_rcnn" and not data.masks:
        raise ValueError(
            f"detector='mask_rcnn' needs a mask for every object, and {str(data.train.ann_file)!r} has objects without "
            "one; choose 'faster_rcnn' or 'retinanet'"
        )
    if epochs is not None and minutes is not None:
        raise ValueError(f"epochs={epochs}, minutes={minutes}: both set the length of the training; give one of them")
    if epochs is not None:
        integer("epochs", epochs, 1)
    if minutes is not None:
        positive_number("minutes", minutes)
    if size is not None and (len(size) != 2 or min(size) < LEAST_SIDE):
        raise ValueError(
            f"size={tuple(size)} must be two sides of at least {LEAST_SIDE} pixels, two cells of stride 32"
        )


def _with_length(
    plan: Recipe,
    settings: Settings,
    epochs: int | None,
    minutes: float | None,
    measure: Callable[..., float],
    reasons: list[Any],
) -> Recipe:
    """Set length, warm-up, running mean and evaluations."""
    pictures = plan.data.pictures
    if minutes is not None:
        seconds = measure(plan)
        # evaluations take a twentieth
        iterations, why = max(1, int(0.95 * 60 * minutes / seconds)), f"{minutes:g} minutes, {seconds:.2f} s each"
    else:
        wanted = -(-(epochs or settings.epochs) * pictures // plan.batch)
        iterations = wanted if epochs else max(wanted, settings.least_iterations)
        why = f"{iterations * plan.batch / pictures:.0f} passes over {pictures} images"
    reasons.append(("length", f"{iterations} iterations", why))
    return set_length(plan, iterations)


def set_length(plan: Recipe, iterations: int) -> Recipe:
    """Return the plan with another number of iterations, and what depends on it: warm-up, running mean, evaluations."""
    # an image in evaluation costs about a third of one in training; evaluations take a twentieth of the time
    evaluations = min(20, max(1, round(0.15 * iterations * plan.batch / max(1, plan.data.val_pictures))))
    return replace(
        plan,
        iterations=iterations,
        warmup=min(100, iterations // 10),
        ema=(round(min(0.02, max(2e-4, 10 / iterations)), 5), max(1, iterations // 10)),
        eval_period=-(-iterations // evaluations),
    )
