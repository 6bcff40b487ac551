"""Declare ablation studies: a grid of variants, heads, toolboxes and seeds, read from YAML (`configs/studies`)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fpn_plugins.files import is_plain_name

HEADS = ("retinanet", "mask_rcnn")
TOOLBOXES = ("mmdet", "detectron2")
MAX_SHOWN = 8
STUDY_METRICS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")


@dataclass(frozen=True)
class Variant:
    """A pyramid of the comparison.

    Attributes:
        name: short name, part of file names.
        backbone: ``{"type": ..., **arguments}`` in this package's vocabulary.
        neck: the same, without ``in_channels``.
        levels: positions of the neck's maps that the head sees; ``None`` is all.
        note: description for the page.
        stock: whether to use the toolbox's own FPN instead of ours, on the same backbone.
    """

    name: str
    backbone: Mapping[str, Any]
    neck: Mapping[str, Any]
    levels: tuple[int, ...] | None = None
    note: str = ""
    stock: bool = False

    def __post_init__(self) -> None:
        if not is_plain_name(self.name):
            raise ValueError(f"variant {self.name!r}: a name is part of file names, so letters, digits, '_', '-', '.'")


@dataclass(frozen=True)
class StudyCell:
    """One training: a point of the grid."""

    variant: Variant
    head: str
    toolbox: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's files."""
        return f"{self.variant.name}-{self.head}-{self.toolbox}-seed{self.seed}"


@dataclass(frozen=True)
class Expectation:
    """An expected result, stated before the study is run.

    Attributes:
        variant: name of a variant.
        others: names of the variants to compare it with; the best of them counts.
        metric: one of ``STUDY_METRICS``.
        at_least: points of AP by which the variant exceeds the others.
        source: who expects it.
    """

    variant: str
    others: tuple[str, ...]
    metric: str = "AP"
    at_least: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class Study:
    """A grid of trainings that differ only in what is compared.

    Attributes:
        title: headline.
        variants: pyramids to compare.
        baseline: name of the variant that the others are compared with.
        iterations: length of each training.
        heads: some of ``HEADS``, and the names of the variants to train with each; ``None`` is all.
        toolboxes: some of ``TOOLBOXES``, and the names of the variants to train in each; ``None`` is all.
        seeds: one training each; a mapping names the seeds of each toolbox.
        evaluations: number of evaluations of a training, evenly spaced, the last one at its end.
        image_size: height and width in pixels for which the cost is counted.
        options: overrides of the configs of all cells, by toolbox.
        expectations: expected results.
        shown: names of at most eight variants that figures show one color each; empty is the first eight.
        remarks: Markdown at the end of the page: published results and conclusions. In the YAML file, the name of a
            file beside it.
    """

    title: str
    variants: tuple[Variant, ...]
    baseline: str
    iterations: int
    heads: Mapping[str, tuple[str, ...] | None] = field(default_factory=lambda: {"retinanet": None})
    toolboxes: Mapping[str, tuple[str, ...] | None] = field(default_factory=lambda: dict.fromkeys(TOOLBOXES))
    seeds: tuple[int, ...] | Mapping[str, tuple[int, ...]] = (0,)
    evaluations: int = 1
    image_size: tuple[int, int] = (240, 320)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expectations: tuple[Expectation, ...] = ()
    shown: tuple[str, ...] = ()
    remarks: str = ""

    def __post_init__(self) -> None:
        names = tuple(variant.name for variant in self.variants)
        for name, values, allowed in (
            ("heads", tuple(self.heads), HEADS),
            ("toolboxes", tuple(self.toolboxes), TOOLBOXES),
            *((f"variants of {key}", chosen or (), names) for key, chosen in {**self.heads, **self.toolboxes}.items()),
            ("baseline", (self.baseline,), names),
            ("shown", self.shown, names),
            ("options", tuple(self.options), TOOLBOXES),
            *(("expectations", (e.variant, *e.others), names) for e in self.expectations),
            ("expectations", tuple(e.metric for e in self.expectations), STUDY_METRICS),
        ):
            unknown = [value for value in values if value not in allowed]
            if unknown:
                raise ValueError(f"study's {name}: {unknown} must be of {list(allowed)}")
        if not 1 <= self.evaluations <= self.iterations or self.iterations < 2:
            raise ValueError(
                f"iterations={self.iterations} must be at least 2, evaluations={self.evaluations} from 1 to iterations"
            )
        stock = [v.name for v in self.variants if v.stock and (v.neck.get("type") != "FPN" or v.levels is not None)]
        if stock:
            raise ValueError(
                f"stock variants {stock}: the toolboxes' own neck stands in only for FPN with all its levels"
            )
        if len(self.shown) > MAX_SHOWN:
            raise ValueError(f"study's shown: {len(self.shown)} variants are too many for a figure; name at most eight")
        seeds = {toolbox: self.seeds_in(toolbox) for toolbox in self.toolboxes}
        wrong = [toolbox for toolbox, own in seeds.items() if not own or min(own) < 0]
        if wrong:
            raise ValueError(f"seeds={seeds} must be one or more integers from 0 for each toolbox; wrong for {wrong}")

    def seeds_in(self, toolbox: str) -> tuple[int, ...]:
        """Seeds of the trainings in a toolbox."""
        return tuple(self.seeds.get(toolbox, ()) if isinstance(self.seeds, Mapping) else self.seeds)

    def half(self) -> Study:
        """Return the same study with trainings of half the length, each with a whole schedule."""
        title, evaluations = f"{self.title}, half the iterations", max(1, self.evaluations // 2)
        return replace(self, title=title, iterations=self.iterations // 2, evaluations=evaluations)

    def figure_variants(self) -> tuple[str, ...]:
        """Names of the variants that figures show."""
        return self.shown or tuple(variant.name for variant in self.variants[:MAX_SHOWN])

    def cells(self) -> list[StudyCell]:
        """List the grid seed by seed, so that an unfinished study has complete comparisons."""
        return [
            StudyCell(variant, head, toolbox, seed)
            for seed in sorted({seed for toolbox in self.toolboxes for seed in self.seeds_in(toolbox)})
            for toolbox, trained in self.toolboxes.items()
            if seed in self.seeds_in(toolbox)
            for head, chosen in self.heads.items()
            for variant in self.variants
            if all(names is None or variant.name in names for names in (trained, chosen))
        ]


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study's YAML file.

    Raises:
        FileNotFoundError: the file or its remarks are missing.
        ValueError: an unknown key or value, or a variant with an unknown backbone.
    """
    import yaml

    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"study {str(path)!r} must be a mapping of a study's keys; see configs/studies for examples")
    backbones, variants = content.pop("backbones", {}), content.pop("variants", {})
    for key in ("heads", "toolboxes"):
        if key in content:
            chosen = content[key] if isinstance(content[key], dict) else dict.fromkeys(content[key])
            content[key] = {name: names and tuple(names) for name, names in chosen.items()}
    if "expectations" in content:
        content["expectations"] = tuple(_expectation(entry) for entry in content["expectations"])
    if "remarks" in content:
        content["remarks"] = Path(path).with_name(content["remarks"]).read_text(encoding="utf-8")
    if isinstance(content.get("seeds"), dict):
        content["seeds"] = {toolbox: tuple(seeds) for toolbox, seeds in content["seeds"].items()}
    for key in ("seeds", "image_size", "shown"):
        if key in content and not isinstance(content[key], dict):
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
        raise ValueError(f"expectation {dict(entry)}: expected variant, others, optionally metric, at_least, source")
    return Expectation(**{**entry, "others": tuple(entry["others"])})


def _variant(name: str, entry: Mapping[str, Any], backbones: Mapping[str, Any]) -> Variant:
    known = {"backbone", "neck", "levels", "note", "stock"}
    if not {"backbone", "neck"} <= set(entry) <= known:
        raise ValueError(
            f"variant {name!r} has keys {sorted(entry)}; expected backbone, neck, and optionally levels, note, stock"
        )
    if entry["backbone"] not in backbones:
        raise ValueError(f"variant {name!r}: backbone {entry['backbone']!r} must be one of {sorted(backbones)}")
    levels = entry.get("levels")
    return Variant(
        name,
        backbones[entry["backbone"]],
        entry["neck"],
        None if levels is None else tuple(levels),
        entry.get("note", ""),
        entry.get("stock", False),
    )


def fingerprint(content: Any) -> str:
    """Hash JSON data; dataclasses count as their fields."""
    text = json.dumps(content, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()
