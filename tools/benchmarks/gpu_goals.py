"""Goals on a GPU, and what the rows of a report say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]
PEERS = ("stock", "mmdet", "detectron2", "torchvision", "effdet", "timm")
# what names a case; rows that agree in these were measured together
CASE = ("model", "toolbox", "detector", "case", "size", "batch", "side", "key_side", "heads", "shifted", "layout")
RATIOS = {"ms": "time_ratio", "mib": "memory_ratio"}


class Goal(NamedTuple):
    """Largest ratio of the best of our forms to the fastest toolbox.

    Attributes:
        text: what is compared.
        section: section of the rows.
        where: values of the rows.
        mode: inference or training; also a value of the rows.
        most: largest ratio.
        value: ``"ms"`` for time, ``"mib"`` for memory.
    """

    text: str
    section: str
    where: dict[str, str]
    mode: str
    most: float
    value: str = "ms"


VITDET = "Mask R-CNN, ViTDet-B, 1024 x 1024, against Detectron2"
GOALS = (
    Goal(f"{VITDET}: time", "vitdet", {}, "training", 0.45),
    Goal(f"{VITDET}: time", "vitdet", {}, "inference", 0.35),
    Goal(f"{VITDET}: memory", "vitdet", {}, "training", 0.3, "mib"),
    Goal(f"{VITDET}: memory", "vitdet", {}, "inference", 0.3, "mib"),
    *(
        Goal(f"{text}: time", "backbones", {"model": model}, mode, 0.6)
        for model, text in (("swin_t", "Swin-T"), ("mvit_t", "MViTv2-T"))
        for mode in ("inference", "training")
    ),
    *(
        Goal(
            f"Mask R-CNN R50 of {name}: time", "detectors", {"detector": "mask_rcnn", "toolbox": box}, "inference", 0.6
        )
        for box, name in (("detectron2", "Detectron2"), ("mmdet", "MMDetection"))
    ),
)
NOTHING_SLOWER = "Our module as it is (eager) against the fastest toolbox, largest ratio"
PRECISION = "bfloat16"  # of all goals but `NOTHING_SLOWER`


class Found(NamedTuple):
    """Ratio of a form of ours to the fastest peer in one case."""

    ratio: float
    who: str
    row: Row


def is_ours(who: str) -> bool:
    """Whether a form is one of ours that computes what the toolbox computes."""
    return who.startswith("ours") and "windows" not in who


def groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows that were measured together, in the order of their first rows."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        if "mode" in row:
            key = [str(row.get(name)) for name in (*CASE, "precision", "mode")]
            found.setdefault(tuple(key), []).append(row)
    return list(found.values())


def ratios(group: Iterable[Row], value: str = "ms") -> Iterator[Found]:
    """Yield the ratio of each of our forms to the fastest toolbox: of the values, or as the row states it."""
    rows = list(group)
    peers = [row[value] for row in rows if row.get("who") in PEERS and value in row]
    for row in rows:
        who = row.get("who", "")
        if not is_ours(who):
            continue
        if RATIOS[value] in row and row.get("peer") in PEERS:
            yield Found(row[RATIOS[value]], who, row)
        elif peers and value in row:
            yield Found(row[value] / min(peers), who, row)


def sections(report: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Rows by section; a row of a later part replaces one of the same case, form and kind of result."""
    found: dict[str, dict[Any, Row]] = {}
    for part in report["parts"]:
        for number, row in enumerate(part["rows"]):
            names = (*CASE, "precision", "mode", "module", "way", "who")
            kind = "ms" if "ms" in row else "difference" if "difference" in row else f"{part['part']} {number}"
            key = (kind, *(str(row.get(name)) for name in names))
            found.setdefault(part["section"], {})[key] = row
    return {section: list(rows.values()) for section, rows in found.items()}


def best(goal: Goal, rows: Iterable[Row]) -> Found | None:
    """Find the smallest ratio that a goal asks for; ``None`` if it was not measured."""
    wanted = {**goal.where, "mode": goal.mode, "precision": PRECISION}
    own = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    found = [found for group in groups(own) for found in ratios(group, goal.value)]
    return min(found, key=lambda found: found.ratio, default=None)


def slowest(by_section: Mapping[str, list[Row]]) -> Found | None:
    """Find the case in which our module, as it is, is slowest beside the toolboxes, in any precision."""
    every = (found for rows in by_section.values() for group in groups(rows) for found in ratios(group))
    return max((found for found in every if found.who == "ours"), key=lambda found: found.ratio, default=None)


def verdict(ratio: float, most: float) -> str:
    """Say whether a ratio, rounded to two digits, reaches a goal."""
    return "reached" if round(ratio, 2) <= most else "not reached"
