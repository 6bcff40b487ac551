"""Describe what a config says about a detector's input and classes besides the model."""

from __future__ import annotations

from typing import Any, NamedTuple

from .resizing import ResizeRule


class InputSettings(NamedTuple):
    """Size of images and classes, read from a config.

    Attributes:
        rule: rule by which the config's test pipeline resizes images; ``None`` if the config has no test pipeline.
        classes: class names in the order of the class indices; empty if the config does not know them.
        category_ids: the data set's id of each class; empty if the config does not know them.
        obstacle: reason why there is no ``rule`` although there is a test pipeline.
        reader: reader of image files, `fpn_plugins.data.PixelReader`; ``None`` for `read_image`.
    """

    rule: ResizeRule | None = None
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    obstacle: str = ""
    reader: Any = None
