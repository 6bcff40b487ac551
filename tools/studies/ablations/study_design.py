"""Ablation studies: a grid of variants, heads, toolboxes and seeds.

A study is declared in YAML (``configs/studies``), in this package's own vocabulary; ``tools/studies/ablations/study.py`` runs it. What a
head has to know of a variant, its levels and channels, is asked of the modules themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fpn_plugins.analysis import build_pyramid, on_meta
from fpn_plugins.features import FeatureSpec

HEADS = ("retinanet", "mask_rcnn")
TOOLBOXES = ("mmdet", "detectron2")
METRICS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")
# octaves of anchor sizes that every variant has, however many levels carry them
ANCHOR_OCTAVES = 5


@dataclass(frozen=True)
class Variant:
    """A pyramid to be compared.

    Attributes:
        name: short name, part of file names.
        backbone: ``{"type": ..., **arguments}`` in this package's vocabulary.
        neck: the same, without ``in_channels``.
        levels: which of the neck's maps the head sees, by position; ``None`` is all.
        note: what it is, for people.
        stock: whether the toolbox's own FPN stands in the place of ours, on the same backbone.
    """

    name: str
    backbone: Mapping[str, Any]
    neck: Mapping[str, Any]
    levels: tuple[int, ...] | None = None
    note: str = ""
    stock: bool = False


@dataclass(frozen=True)
class Cell:
    """One training: a point of the grid."""

    variant: Variant
    head: str
    toolbox: str
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.variant.name}-{self.head}-{self.toolbox}-seed{self.seed}"


@dataclass(frozen=True)
class Expectation:
    """What is expected of a study before it is run.

    Attributes:
        variant: name of a variant.
        others: names of those that it is compared with; the best of them counts.
        metric: of ``METRICS``.
        at_least: by how many points of AP the variant exceeds the others.
        source: who expects it.
    """

    variant: str
    others: tuple[str, ...]
    metric: str = "AP"
    at_least: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Study:
    """A grid of trainings that differ in what is compared, and in nothing else.

    Attributes:
        title: headline.
        variants: the pyramids.
        baseline: name of the variant that the others are compared with.
        iterations: of each training.
        heads: of ``HEADS``, and the names of the variants that each is trained with; ``None`` is all.
        toolboxes: of ``TOOLBOXES``, and the names of the variants that each trains; ``None`` is all.
        seeds: one training each.
        evaluations: how often a training is evaluated, evenly spaced, the last time at its end.
        image_size: height and width in pixels for which the cost is counted.
        options: by toolbox, overrides of its config for all cells.
        expectations: what the results are held against.
        remarks: Markdown that ends its page, what others published and what its authors make of the results; in the
            YAML file the name of a file beside it.
    """

    title: str
    variants: tuple[Variant, ...]
    baseline: str
    iterations: int
    heads: Mapping[str, tuple[str, ...] | None] = field(default_factory=lambda: {"retinanet": None})
    toolboxes: Mapping[str, tuple[str, ...] | None] = field(default_factory=lambda: dict.fromkeys(TOOLBOXES))
    seeds: tuple[int, ...] = (0,)
    evaluations: int = 1
    image_size: tuple[int, int] = (240, 320)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expectations: tuple[Expectation, ...] = ()
    remarks: str = ""

    def __post_init__(self) -> None:
        names = tuple(variant.name for variant in self.variants)
        for name, values, allowed in (
            ("heads", tuple(self.heads), HEADS),
            ("toolboxes", tuple(self.toolboxes), TOOLBOXES),
            *((f"variants of {key}", chosen or (), names) for key, chosen in {**self.heads, **self.toolboxes}.items()),
            ("baseline", (self.baseline,), names),
            ("options", tuple(self.options), TOOLBOXES),
            *(("expectations", (e.variant, *e.others), names) for e in self.expectations),
            ("expectations", tuple(e.metric for e in self.expectations), METRICS),
        ):
            unknown = [value for value in values if value not in allowed]
            if unknown:
                raise ValueError(f"study's {name}: {unknown} must be of {list(allowed)}")
        if not 1 <= self.evaluations <= self.iterations or self.iterations < 2:
            raise ValueError(
                f"iterations={self.iterations}, evaluations={self.evaluations}: at least 2, and 1 to as many"
            )
        stock = [v.name for v in self.variants if v.stock and (v.neck.get("type") != "FPN" or v.levels is not None)]
        if stock:
            raise ValueError(f"stock variants {stock}: the toolboxes' own neck is for a neck FPN, with all its levels")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds={list(self.seeds)} must be one or more numbers from 0")

    def cells(self) -> list[Cell]:
        """The grid, seed by seed, so that an unfinished study has whole comparisons."""
        return [
            Cell(variant, head, toolbox, seed)
            for seed in self.seeds
            for toolbox, trained in self.toolboxes.items()
            for head, chosen in self.heads.items()
            for variant in self.variants
            if all(names is None or variant.name in names for names in (trained, chosen))
        ]


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study's YAML file.

    Raises:
        FileNotFoundError: no such file, or none of its remarks.
        ValueError: a key or a value that is not one of a study's, or a variant of an unknown backbone.
    """
    import yaml

    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"study {str(path)!r} must be a mapping of a study's keys, see configs/studies")
    backbones, variants = content.pop("backbones", {}), content.pop("variants", {})
    for key in ("heads", "toolboxes"):
        if key in content:
            chosen = content[key] if isinstance(content[key], dict) else dict.fromkeys(content[key])
            content[key] = {name: names and tuple(names) for name, names in chosen.items()}
    if "expectations" in content:
        content["expectations"] = tuple(_expectation(entry) for entry in content["expectations"])
    if "remarks" in content:
        content["remarks"] = Path(path).with_name(content["remarks"]).read_text(encoding="utf-8")
    for key in ("seeds", "image_size"):
        if key in content:
            value = content[key]
            content[key] = tuple(value) if isinstance(value, list) else (value,)
    unknown = sorted(set(content) - {entry.name for entry in fields(Study)})
    missing = sorted({"title", "baseline", "iterations"} - set(content))
    if unknown or missing:
        raise ValueError(f"study {str(path)!r}: unknown keys {unknown}, missing keys {missing}")
    return Study(variants=tuple(_variant(name, entry, backbones) for name, entry in variants.items()), **content)


def _expectation(entry: Mapping[str, Any]) -> Expectation:
    known = {"variant", "others", "metric", "at_least", "source"}
    if not {"variant", "others"} <= set(entry) <= known:
        raise ValueError(f"expectation {dict(entry)}: expected variant, others, perhaps metric, at_least, source")
    return Expectation(**{**entry, "others": tuple(entry["others"])})


def _variant(name: str, entry: Mapping[str, Any], backbones: Mapping[str, Any]) -> Variant:
    known = {"backbone", "neck", "levels", "note", "stock"}
    if not {"backbone", "neck"} <= set(entry) <= known:
        raise ValueError(
            f"variant {name!r} has the keys {sorted(entry)}; expected backbone, neck, perhaps levels, note, stock"
        )
    if entry["backbone"] not in backbones:
        raise ValueError(f"variant {name!r}: backbone {entry['backbone']!r} is none of {sorted(backbones)}")
    levels = entry.get("levels")
    return Variant(
        name,
        backbones[entry["backbone"]],
        entry["neck"],
        None if levels is None else tuple(levels),
        entry.get("note", ""),
        entry.get("stock", False),
    )


def head_levels(variant: Variant) -> tuple[FeatureSpec, ...]:
    """Channels and strides of the maps that a head of the variant sees.

    Raises:
        ValueError: a pyramid that does not fit together, or levels that it does not have.
    """
    pyramid = _on_meta(variant)
    specs = pyramid.neck.out_specs(pyramid.backbone.feature_specs)
    chosen = tuple(range(len(specs))) if variant.levels is None else variant.levels
    if not chosen or not set(chosen) <= set(range(len(specs))):
        raise ValueError(f"variant {variant.name!r}: levels={list(chosen)} must be of 0..{len(specs) - 1}")
    return tuple(specs[position] for position in chosen)


def backbone_levels(variant: Variant) -> tuple[FeatureSpec, ...]:
    """Channels and strides of the maps that a variant's neck is given."""
    return tuple(_on_meta(variant).backbone.feature_specs)


def _on_meta(variant: Variant) -> Any:
    backbone = _without_weights(variant.backbone)
    return on_meta(lambda: build_pyramid(backbone, variant.neck))


def _without_weights(config: Any) -> Any:
    if isinstance(config, Mapping):
        weights = ("checkpoint", "pretrained")
        return {key: _without_weights(value) for key, value in config.items() if key not in weights}
    return config


def anchor_sizes(num_levels: int, smallest: float, per_octave: int) -> list[list[float]]:
    """Sides of the anchors of each level in pixels, the same set of sizes for any number of levels.

    ``ANCHOR_OCTAVES`` octaves from ``smallest`` on, one per level where there are as many levels. Fewer levels carry
    several each, neighbours sharing some, because a head that is shared by the levels needs as many anchors on each: of
    three levels, the first has the octaves 0-2, the second 1-3, the third 2-4.

    Args:
        num_levels: number of levels.
        smallest: side of the smallest anchor in pixels.
        per_octave: sizes in an octave.

    Raises:
        ValueError: more levels than octaves.
    """
    if not 1 <= num_levels <= ANCHOR_OCTAVES:
        raise ValueError(f"num_levels={num_levels} must be 1 to {ANCHOR_OCTAVES}, the octaves of anchor sizes")
    share = ANCHOR_OCTAVES - num_levels + 1
    steps = [step / per_octave for step in range(share * per_octave)]
    return [[smallest * 2 ** (level + step) for step in steps] for level in range(num_levels)]


def fingerprint(content: Any) -> str:
    """Hash of what a result depends on: JSON data, with dataclasses as their fields."""
    text = json.dumps(content, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()
