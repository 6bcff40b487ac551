"""Whole detectors of either toolbox, from a config alone, run part by part on the meta device.

What lies between the parts has no weights and depends on the values: proposals are selected, features of the regions
are sampled. In its place stand as many regions as the config lets through at most, and they are a condition of the
count.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fpn_plugins.analysis import CostReport, count_cost, on_meta

TOOLBOXES = ("mmdet", "detectron2")


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


def load_detector(config: str, options: Sequence[str] = (), toolbox: str | None = None) -> Detector:
    """The detector of a config on the meta device; arguments as those of `detector_cost`."""
    toolbox = toolbox or toolbox_of(config)
    if toolbox not in TOOLBOXES:
        raise ValueError(f"config {config!r}: toolbox {toolbox!r} is unknown, choose one of {TOOLBOXES}")
    if toolbox == "mmdet":
        from _mmdet_detector import build, run
    else:
        from _detectron2_detector import build, run
    return Detector(on_meta(lambda: build(config, options)), run)


def forget_weights(node: Any) -> None:
    """Take the places that this package's backbones would read weights from out of any toolbox's config."""
    if isinstance(node, MutableMapping):
        for key, value in node.items():
            if key in ("pretrained", "checkpoint"):
                node[key] = False if value is True else None
            else:
                forget_weights(value)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            forget_weights(value)
