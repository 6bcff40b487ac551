"""Classify values read from JSON by what both toolboxes accept."""

from __future__ import annotations

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; JSON's true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer, or a whole float such as 96.0."""
    return is_number(value) and value == int(value)


def is_id(value: Any) -> bool:
    """Return whether a value identifies an image, an annotation or a category: a whole number, or a text."""
    return is_whole(value) or (isinstance(value, str) and value != "")


def mix_types(ids: list[Any]) -> bool:
    """Return whether some ids are texts and others are numbers, which cannot be sorted."""
    return len({isinstance(value, str) for value in ids}) > 1
