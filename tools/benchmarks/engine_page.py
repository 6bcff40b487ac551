"""Write the page of exported detectors in other engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench_report import measured
from engine_detectors import CASES, DEPTHS

HOSTS = ("mmdet", "detectron2")
ENGINES = ("onnxruntime", "openvino", "torch", "itself")
DATA = {"coco_mini": "COCO", "bccd": "BCCD"}
EDGE = 1e-4  # largest distance from 0.5 of the probability of a pixel that rounding may flip, as of scores
Row = dict[str, Any]

HEADER = """# Exported detectors in other engines

{measured}.

{photos} photographs of a set, reduced to at most 320 x 240 px, at {count} sizes
({sizes} px, shorter and longer side), none of them traced.
Detectors of each toolbox's own configs, whose random predictors are scaled so that they find objects: up to 100 on a
picture, detectors with masks up to 20.{notes}

- Objects are equal if they agree within 0.01 px and 1e-4 in score, masks if their IoU is at least 0.999.
- Edge: largest distance from 0.5, in either of the two, of the probability of a pixel that is in one mask and not in
  the other. {edge}
- AP: largest change, in points, of the AP of boxes or of masks at a size, if the toolbox's objects count as the truth.
  The [guide](guides/deploy.md) has the AP of trained detectors.
- Time: relative to the toolbox in eager mode, per picture, with resizing and pasting of masks;
  {clock}.

{table}

## Unequal objects

{reasons}

{unequal}

## Panoptic FPN

Semantic logits have a standard deviation of about 2. Pixels are equal if they have the same class after merging; PQ is
that of the engine's segments, if the toolbox's count as the truth.

{panoptic}
"""


def page(report: Mapping[str, Any]) -> str:
    """Build the page."""
    rows = {name: total(sizes) for name, sizes in sorted(report["rows"].items(), key=lambda item: _place(item[0]))}
    shown = [_cells(name, row) for name, row in rows.items()]
    panoptic = [[*_names(name), *_panoptic_cells(row)] for name, row in rows.items() if "pq" in row]
    return HEADER.format(
        measured=measured(dict(report)),
        photos=report["photos"],
        count=len(report["sizes"]),
        sizes=", ".join(f"{short} x {long}" for short, long in report["sizes"]),
        notes="".join(f"\n{text}" for key, text in NOTES.items() if any(key in name.split(", ") for name in rows)),
        clock="processor time, because other programs ran on the machine" if report["threads"] == 1 else "wall time",
        edge=edge_sentence(rows),
        table=_table((*NAMES, "pictures", "objects", "equal objects", "equal masks", "edge", "AP", "time"), shown),
        reasons=REASONS,
        unequal=_table(REASON_HEADS, list(unequal_rows(rows))),
        panoptic=_table((*NAMES, "equal pixels", "largest difference of logits", "PQ"), panoptic),
    )


# engine or photographs -> what a reader of its rows has to know
NOTES = {
    "torch": "`torch` is the `.pt2` file, which refuses sizes at which the coarsest map has a single cell.",
    "itself": "`itself` is the toolbox's own detector in channels-last layout, which computes the same with other "
    "rounding:\nit shows how much rounding alone changes. mmcv's compiled RoIAlign misreads that layout, so that\n"
    "mmdet's two-stage detectors have no such row.",
    "bccd": "BCCD's photographs show blood cells.",
}
NAMES = ("detector", "backbone", "photographs", "toolbox", "engine")
REASON_HEADS = (*NAMES, "unequal", "overlap", "IoU - 0.5", "tie", "scores apart", "last", "unexplained")
REASONS = """Objects that the toolbox or the engine alone has are counted by their reason:

- overlap: the other has a better object of the class, and the IoU of the two is the threshold of suppression, 0.5, up
  to rounding: one says that it is suppressed, the other that it is not. Stated is the largest distance.
- tie: the IoU is higher, but the scores are equal up to rounding, so that either suppresses the other.
- last: the list is full, and the object gave way to one of the two kinds above.
- unexplained: none of these. Proposals are not compared; one that comes or goes in the first stage shows as such."""


def total(sizes: Mapping[str, Row]) -> Row:
    """Combine the rows of all sizes."""
    rows = list(sizes.values())
    sums = {
        key: sum(row.get(key, 0) for row in rows) for key in ("total", "matched", "pictures", "masks", "equal_masks")
    }
    result: Row = {**sums, "unequal": [entry for row in rows for entry in row["unequal"]]}
    for key in ("box_difference", "score_difference", "edge", "logits"):
        if key in rows[0]:
            result[key] = max(row[key] for row in rows)
    for key in ("pixels", "pq"):
        if key in rows[0]:
            result[key] = sum(row[key] for row in rows) / len(rows)
    result["ap"] = 100 * max((abs(value) for row in rows for value in row["ap"].values()), default=0.0)
    host, engine = (sum(row["milliseconds"][side] for row in rows) for side in (0, 1))
    return {**result, "time": engine / host}


def edge_sentence(rows: Mapping[str, Row]) -> str:
    """Say whether each mask that differs does so at the threshold."""
    over = [name for name, row in rows.items() if row.get("edge", 0) > EDGE]
    if over:
        return f"**More than {EDGE:g}, so not explained by rounding: {'; '.join(over)}.**"
    largest = max((row.get("edge", 0) for row in rows.values()), default=0)
    return f"It is {largest:.1e} at most: such pixels lie on the threshold."


def unequal_rows(rows: Mapping[str, Row]) -> Iterator[Sequence[str]]:
    """Count the unequal objects of each row by reason."""
    for name, row in rows.items():
        by = {why: [entry for entry in row["unequal"] if entry["why"] == why] for why in ("overlap", "tie", "last")}
        sides = max((abs(entry["iou"] - 0.5) for entry in by["overlap"]), default=None)
        gaps = max((abs(entry["score_gap"]) for entry in by["tie"]), default=None)
        numbers = [str(len(row["unequal"])), str(len(by["overlap"])), _small(sides), str(len(by["tie"])), _small(gaps)]
        unknown = len(row["unequal"]) - sum(map(len, by.values()))
        if row["unequal"]:
            yield [*_names(name), *numbers, str(len(by["last"])), str(unknown)]


def _names(name: str) -> list[str]:
    kind, toolbox, engine, backbone, data = name.split(", ")
    return [kind, backbone, DATA.get(data, data), toolbox, engine]


def _place(name: str) -> tuple[int, ...]:
    kind, toolbox, engine, backbone, data = name.split(", ")
    depths = [f"ResNet-{depth}" for depth in DEPTHS]
    known = list(DATA).index(data) if data in DATA else len(DATA)
    places = list(CASES).index(kind), depths.index(backbone), known, HOSTS.index(toolbox), ENGINES.index(engine)
    return places


def _cells(name: str, row: Row) -> list[str]:
    masks = f"{100 * row['equal_masks'] / row['masks']:.2f} %" if row["masks"] else "-"
    share = f"{100 * row['matched'] / row['total']:.2f} %" if row["total"] else "-"
    objects = f"{row['total'] / row['pictures']:.0f}"
    edge = _small(row.get("edge")) if row["masks"] else "-"
    return [*_names(name), str(row["pictures"]), objects, share, masks, edge, f"{row['ap']:.3f}", f"{row['time']:.2f}"]


def _panoptic_cells(row: Row) -> list[str]:
    return [f"{100 * row['pixels']:.3f} %", f"{row['logits']:.1e}", f"{row['pq']:.4f}"]


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None."
    numbers = len(heads) - len(NAMES)
    lines = [heads, ["---"] * len(NAMES) + ["--:"] * numbers, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
