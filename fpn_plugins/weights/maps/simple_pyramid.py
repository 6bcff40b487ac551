"""SimpleFeaturePyramid: the layouts of Detectron2 and mmdet's ``projects/ViTDet`` -> ours.

Ours, with ``i`` the position of the level from the highest resolution::

    resamples.<i>.<j>.*        layers of its sequence of deconvolutions, numbered as in both layouts
    lateral_convs.<i>.conv.*   lateral_convs.<i>.norm.*
    output_convs.<i>.conv.*    output_convs.<i>.norm.*
    extra_levels.convs.<k>.conv.*
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..key_map import KeyMap
from .mmcv import conv_modules


def detectron2(first_stage: int, num_resampling: Sequence[int]) -> KeyMap:
    """Build the table of Detectron2's ``simfp_<s>``: per level, resampling layers, a 1x1 and a 3x3 convolution.

    Levels start at ``first_stage``, log2 of the finest stride, and have ``num_resampling`` layers before the 1x1 one.
    """
    rules = []
    for i, length in enumerate(num_resampling):
        stage = f"simfp_{first_stage + i}"
        for place, ours in ((f"{stage}.{length}", "lateral_convs"), (f"{stage}.{length + 1}", "output_convs")):
            rules += [(f"{place}.norm.<*>", f"{ours}.{i}.norm.<*>"), (f"{place}.<*>", f"{ours}.{i}.conv.<*>")]
        rules += [(f"{stage}.{j}.<*>", f"resamples.{i}.{j}.<*>") for j in range(length)]
    return KeyMap("detectron2 SimpleFeaturePyramid", rules)


def mmdet(num_levels: int) -> KeyMap:
    """Build the table of ``SimpleFPN`` in mmdet's ``projects/ViTDet``; its convolutions are named as in ``FPN``."""
    places = [("lateral_convs.<i>", "lateral_convs.<i>"), ("fpn_convs.<i>", "output_convs.<i>")]
    resamples = [(f"fpn{i + 1}.<*>", f"resamples.{i}.<*>") for i in range(num_levels)]
    return KeyMap("mmdet SimpleFPN", [*conv_modules("", places).rules, *resamples])


@dataclass(frozen=True)
class SimplePyramidLayouts:
    """Tables for the keys of a simple pyramid; ``num_resampling`` as for `detectron2`."""

    num_resampling: Sequence[int]

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Return the tables of both layouts; Detectron2's finest stage is read from ``keys``."""
        stages = [int(match[1]) for key in keys if (match := re.match(r"simfp_(\d+)\.", key))]
        return [detectron2(min(stages, default=2), self.num_resampling), mmdet(len(self.num_resampling))]


def detectron2_backbone() -> KeyMap:
    """Redirect Detectron2's ``SimpleFeaturePyramid``, which has the ViT as ``net``, to ``bottom_up`` and ``neck``."""
    rules = [("net.<*>", "bottom_up.<*>"), ("simfp_<s>.<*>", "neck.simfp_<s>.<*>")]
    return KeyMap("detectron2 SimpleFeaturePyramid backbone", rules)
