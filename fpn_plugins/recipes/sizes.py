"""Choose the sizes of images in training and in evaluation."""

from __future__ import annotations

from typing import Any

from .folder import TrainingData
from .reasons import quantile
from .settings import LEAST_OBJECT, LEAST_SIDE, MOST_SIDES, MULTIPLE, TARGET


def choose_size(data: TrainingData, size: tuple[int, int] | None, device: str, reasons: list[Any]) -> tuple[int, int]:
    """Choose the size of images so that small objects have `TARGET` pixels, unless it is given, and add the reason."""
    sides = data.sides
    small = quantile(data.boxes, 0.05) * sides[0]
    chosen = _fitted(sides, small, device) if size is None else (min(size), max(size))
    found = small * min(side / stored for side, stored in zip(chosen, sides, strict=True))
    why = "given" if size is not None else f"images have {sides[0]} x {sides[1]}"
    why += f"; small objects (5 % quantile) get {found:.0f} px"
    if found < LEAST_OBJECT:
        larger = f"a larger --size (stored: {sides[0]} x {sides[1]}), or " if found < small and size else ""
        why += f", too few to be found: {larger}cut the images into slices"
    reasons.append(("size", f"{chosen[0]} x {chosen[1]}", why))
    return chosen


def _fitted(sides: tuple[int, int], small: float, device: str) -> tuple[int, int]:
    """Return the size that gives objects of ``small`` pixels `TARGET` ones, within what the device can afford."""
    most = min(limit / side for limit, side in zip(MOST_SIDES[device], sides, strict=True))
    factor = min(TARGET[device] / small, most, 2.0)
    short = max(LEAST_SIDE, round(factor * sides[0] / MULTIPLE) * MULTIPLE)
    long = max(short, round(short * sides[1] / sides[0]))
    if short == LEAST_SIDE:  # strips would become huge
        long = min(long, MOST_SIDES[device][1])
    return short, long


def usual_short(sides: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the shorter side that an image of median ``sides`` gets; the limit of the longer one can make it less."""
    return max(LEAST_SIDE, round(min(size[0], size[1] * sides[0] / sides[1])))


def short_sides_of(short: int, scales: tuple[float, float]) -> tuple[int, ...]:
    """Return the shorter sides in training: multiples of 16 px between the scales, relative to ``short``."""
    low, high = (max(2, round(scale * short / MULTIPLE)) for scale in scales)
    return tuple(range(MULTIPLE * low, MULTIPLE * max(low, high) + 1, MULTIPLE))
