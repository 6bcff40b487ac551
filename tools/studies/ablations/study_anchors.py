"""Count how well the anchors of a study's variants cover the objects, and show the counts in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from study_bases import ANCHORS, PADDING
from study_design import Study
from study_levels import head_levels, shared_anchor_sizes

from fpn_plugins.analysis import anchor_reach
from fpn_plugins.data import find_split
from fpn_plugins.data.coco_report import SIZE_CLASSES


def count_anchors(study: Study, data: Path) -> dict[str, list[dict[str, Any]]]:
    """Count how well the anchors of each layout of levels cover the objects of the validation images, by head."""
    ann_file = find_split(data, "val").ann_file
    counted: dict[str, list[dict[str, Any]]] = {}
    for head, trained in study.heads.items():
        layouts: dict[tuple[int, ...], list[str]] = {}
        for variant in (v for v in study.variants if trained is None or v.name in trained):
            layouts.setdefault(tuple(level.stride for level in head_levels(variant)), []).append(variant.name)
        counted[head] = []
        for strides, names in layouts.items():
            sizes = shared_anchor_sizes(len(strides), *ANCHORS[head])
            reach = anchor_reach(ann_file, strides, sizes, divisibility=PADDING)
            row = {"strides": list(strides), "variants": names, "reach": {s: asdict(r) for s, r in reach.items()}}
            counted[head].append(row)
    return counted


def anchors(head: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of what `count_anchors` counts for a head."""
    columns = [f"{size}: best IoU, covered, positives" for size in SIZE_CLASSES]
    lines = [
        f"| {head}: strides of the levels | variants | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(SIZE_CLASSES)}",
    ]
    for row in rows:
        cells = [_reach(row["reach"][size]) if size in row["reach"] else "–" for size in SIZE_CLASSES]
        shown = ", ".join(f"`{name}`" for name in row["variants"])
        lines.append(f"| {', '.join(map(str, row['strides']))} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _reach(reach: Mapping[str, float]) -> str:
    return f"{reach['best_iou']:.2f}, {100 * reach['covered']:.0f} %, {reach['positives']:.1f}"
