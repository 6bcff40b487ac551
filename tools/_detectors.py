"""Whole detectors of either toolbox, from a config alone, run part by part on the meta device.

What lies between the parts has no weights and depends on the values: proposals are selected, features of the regions
are sampled. In its place stand as many regions as the config lets through at most, and they are a condition of the
count.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fpn_plugins.analysis import CostReport, count_cost, on_meta
from fpn_plugins.weights import read_checkpoint
from fpn_plugins.weights.facts import DetectorFacts

TOOLBOXES = ("mmdet", "detectron2")
# computed from the config, and stored by some versions of the toolboxes
COMPUTED = ("anchor_generator.", "pixel_mean", "pixel_std", "num_batches_tracked")


class Detector(NamedTuple):
    """A detector, and the function that runs its parts on images and returns the conditions of doing so."""

    model: nn.Module
    run: Callable[[Any, Tensor], Sequence[str]]


def detector_cost(
    config: str, image_size: tuple[int, int], options: Sequence[str] = (), toolbox: str | None = None
) -> CostReport:
    """Cost of a detector's inference on one image, from its config alone.

    Args:
        config: a config file; ``mmdet::NAME`` or ``detectron2::NAME`` is one that comes with the toolbox.
        image_size: height and width in pixels, after resizing and padding.
        options: overrides, ``KEY=VALUE``.
        toolbox: ``"mmdet"`` or ``"detectron2"``; ``None`` finds out.

    Raises:
        FileNotFoundError: no such config.
        ValueError: a detector whose parts are not known.
    """
    toolbox = toolbox or toolbox_of(config)
    model, run = load_detector(config, options, toolbox)
    images = torch.empty(1, 3, *image_size, device="meta")

    def run_on_meta() -> Sequence[str]:
        with torch.device("meta"):
            return run(model, images)

    name = Path(config.split("::")[-1]).stem
    return count_cost(model, run_on_meta, f"{name} ({toolbox})", image_size)


def toolbox_of(config: str) -> str:
    """Which toolbox a config is for: by its prefix, its suffix, or what it imports (LazyConfig files import)."""
    if "::" in config:
        return config.split("::")[0]
    if not Path(config).is_file():
        raise FileNotFoundError(
            f"config {config!r} is not a file; the toolboxes' own are mmdet::NAME, detectron2::NAME"
        )
    if Path(config).suffix in (".yaml", ".yml"):
        return "detectron2"
    tree = ast.parse(Path(config).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    lazy = any(node.level or (node.module or "").split(".")[0] == "detectron2" for node in imports)
    return "detectron2" if lazy else "mmdet"


def build_detector(config: str, options: Sequence[str] = (), toolbox: str | None = None) -> nn.Module:
    """The detector of a config on the CPU, its weights as they are drawn; arguments as those of `detector_cost`."""
    build, _, _ = _toolbox_module(config, toolbox)
    return build(config, options, "cpu")


def load_weights(detector: nn.Module, checkpoint: str | Path) -> None:
    """Load a checkpoint of this very detector; what old versions stored beside the weights is passed over.

    Raises:
        ValueError: parameters missing or left over, or of other shapes.
    """
    try:
        missing, unexpected = detector.load_state_dict(read_checkpoint(checkpoint), strict=False)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {str(checkpoint)!r} does not fit the config: {error}") from error
    missing, unexpected = (
        [k for k in keys if not any(part in k for part in COMPUTED)] for keys in (missing, unexpected)
    )
    if missing or unexpected:
        raise ValueError(
            f"checkpoint {str(checkpoint)!r} is of another detector than the config: {len(missing)} parameters missing "
            f"{missing[:4]}, {len(unexpected)} left over {unexpected[:4]}; tools/convert_checkpoint.py converts those "
            "of the other toolbox"
        )


def facts_of(config: str, detector: nn.Module) -> DetectorFacts:
    """What a detector is beside its weights; ``config`` tells the toolbox."""
    return importlib.import_module(f"fpn_plugins.adapters.{toolbox_of(config)}.facts").detector_facts(detector)


def class_names(config: str, detector: nn.Module, annotations: Path | None = None) -> list[str]:
    """Names of a detector's classes: an annotation file's, or COCO's where it has as many, or numbers.

    Raises:
        ValueError: the annotation file has another number of categories than the detector classes.
    """
    number = importlib.import_module(f"fpn_plugins.adapters.{toolbox_of(config)}.facts").num_classes(detector)
    if annotations is not None:
        categories = json.loads(annotations.read_text(encoding="utf-8"))["categories"]
        names = [entry["name"] for entry in sorted(categories, key=lambda entry: entry["id"])]
        if len(names) != number:
            raise ValueError(f"annotations={str(annotations)!r} has {len(names)} categories, the detector {number}")
        return names
    names = _toolbox_module(config, None)[2]
    return names if len(names) == number else [str(index) for index in range(number)]


def _toolbox_module(config: str, toolbox: str | None) -> tuple[Callable[..., nn.Module], Any, list[str]]:
    toolbox = toolbox or toolbox_of(config)
    if toolbox not in TOOLBOXES:
        raise ValueError(f"config {config!r}: toolbox {toolbox!r} is unknown, choose one of {TOOLBOXES}")
    module = importlib.import_module(f"_{toolbox}_detector")
    return module.build, module.run, module.coco_names()


def load_detector(config: str, options: Sequence[str] = (), toolbox: str | None = None) -> Detector:
    """The detector of a config on the meta device; arguments as those of `detector_cost`."""
    build, run, _ = _toolbox_module(config, toolbox)
    return Detector(on_meta(lambda: build(config, options, "meta")), run)
