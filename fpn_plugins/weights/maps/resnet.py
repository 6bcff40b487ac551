"""ResNet and ResNeXt: detectron2's names -> those of timm, torchvision and mmdet, which are the same.

Only names differ here, and names do not tell two things apart that change the result: Detectron2's ``R-50`` and ``R-101``
(MSRA's weights) stride in the 1x1 convolution (mmdet's ``style='caffe'``), the others in the 3x3 one, and they expect BGR
images with unit standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap


def detectron2() -> KeyMap:
    """detectron2's ``ResNet``: ``stem``, ``res2 .. res5``, ``shortcut``; ``norm`` inside each convolution."""
    rules: list[tuple[str, str | None]] = [
        ("stem.conv1.norm.{*}", "bn1.{*}"),
        ("stem.conv1.{*}", "conv1.{*}"),
        ("res{s+1}.{j}.shortcut.norm.{*}", "layer{s}.{j}.downsample.1.{*}"),
        ("res{s+1}.{j}.shortcut.{*}", "layer{s}.{j}.downsample.0.{*}"),
        ("res{s+1}.{j}.conv{n}.norm.{*}", "layer{s}.{j}.bn{n}.{*}"),
        ("res{s+1}.{j}.conv{n}.{*}", "layer{s}.{j}.conv{n}.{*}"),
        ("linear.{*}", None),
    ]
    return KeyMap("detectron2 ResNet", rules)


def plain() -> KeyMap:
    """timm, torchvision and mmdet: the names are already right; a classifier is dropped."""
    return KeyMap(
        "timm/torchvision/mmdet ResNet",
        [
            ("fc.{*}", None),
            ("head.{*}", None),
            ("conv1.{*}", "conv1.{*}"),
            ("bn1.{*}", "bn1.{*}"),
            ("layer{s}.{*}", "layer{s}.{*}"),
        ],
    )


class ResNetLayouts:
    """The tables to try for the keys of a ResNet, as a module holds it under ``prefix`` (``"model."``)."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Tables of both layouts, our side prefixed."""
        return [under_prefix(table, self.prefix) for table in (plain(), detectron2())]


def under_prefix(table: KeyMap, prefix: str) -> KeyMap:
    """The same table for a module that holds its network under ``prefix``."""
    rules = [(rule.theirs, None if rule.ours is None else prefix + rule.ours) for rule in table.rules]
    return KeyMap(table.layout, rules)
