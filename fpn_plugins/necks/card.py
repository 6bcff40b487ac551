"""`NeckCard`: facts about a neck, the source of tables and pictures in the docs and of the contract tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..features import FeatureSpec
from .graph import Graph

# ResNet-50's maps, a plain ViT-B's map, and small maps for tests
C2_TO_C5 = tuple(FeatureSpec(256 << k, 4 << k) for k in range(4))
C3_TO_C5 = C2_TO_C5[1:]
VIT_B = (FeatureSpec(768, 16),)
EXAMPLE_SPECS = (FeatureSpec(8, 4), FeatureSpec(12, 8), FeatureSpec(16, 16), FeatureSpec(24, 32))

P6 = {"extra_levels": {"num_levels": 1, "op": "max_pool"}}
FPN_PAPER = (
    "Tsung-Yi Lin, Piotr Dollár, Ross Girshick, Kaiming He, Bharath Hariharan, Serge Belongie: Feature Pyramid "
    "Networks for Object Detection. CVPR 2017, arXiv:1612.03144"
)


@dataclass(frozen=True)
class NeckVariant:
    """A neck with an option that has published results of its own.

    Attributes:
        arguments: the option, in addition to the card's ``arguments``.
        use_when: see `NeckCard`.
        results: see `NeckCard`.
    """

    arguments: Mapping[str, Any]
    use_when: str
    results: tuple[str, ...]


@dataclass(frozen=True)
class NeckCard:
    """Facts about one neck, stored as the class attribute ``card`` of a neck class.

    ``topology`` is the `Graph` that the neck runs, or a drawing in text: a line of column titles, then one line per
    level, coarsest first, with one cell per column. A cell names a map, its label if that differs from the name, and
    the maps that it reads, whose arrow can have a label. The first column lists the inputs; names of outputs start with
    P::

           backbone | merge               | output
        5: C5       | M5 < 1×1: C5        | P5 < 3×3: M5
        4: C4       | M4 (+) < 1×1: C4 M5 | P4 < 3×3: M4

    Attributes:
        idea: what the neck does, in one sentence.
        use_when: when to choose it; completes "Use it ...".
        caveats: disadvantages.
        paper: ``"Authors: Title. Venue year, arXiv:number"``.
        reference: reference implementations, by code base and file.
        topology: see above.
        results: results published by others on COCO val2017, times 100, each as ``"metric: detector (publisher)"``.
        variants: options with results of their own, by a name for tables.
        in_specs: input maps in the cost tables.
        arguments: arguments in the cost tables, without ``in_channels``.
        follows: name of the neck whose maps it reads; ``None`` for a backbone's maps.
        example_specs: input maps in the contract tests.
        example_arguments: arguments in the contract tests, without ``in_channels``.
    """

    idea: str
    use_when: str
    caveats: str
    paper: str
    reference: str
    topology: str | Graph
    results: tuple[str, ...] = ()
    variants: Mapping[str, NeckVariant] = field(default_factory=dict)
    in_specs: tuple[FeatureSpec, ...] = C2_TO_C5
    arguments: Mapping[str, Any] = field(default_factory=dict)
    follows: str | None = None
    example_specs: tuple[FeatureSpec, ...] = EXAMPLE_SPECS
    example_arguments: Mapping[str, Any] = field(default_factory=lambda: {"out_channels": 32})
