"""Page of the ways to find small objects, which `small_objects.py` measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench_report import thread_count

BASE = "as trained"
# ways that need a detector of their own -> what the page says until there is one
TRAINED = {
    "P2": "a neck from stride 4 on, with anchors to match",
    "larger images": "training, too, at a larger size",
    "image pyramid": "`ImagePyramid`, one network on several sizes",
    "level weights": "losses weighted by the number of objects on each level",
}
LEAST_SMALL = 10  # small objects of a class that counts for AP_S
METRICS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")

HEADER = """# Small objects: AP gained against time

Measured until {date} on {processor}, {threads}, with {versions}.

AP x 100 on validation pictures; small objects (AP_S) have less than 32 x 32 pixels at the detector's own size, and
classes with fewer than {least} of them do not count. Time is the median per picture, relative to the detector as
trained in the same run, and includes resizing and merging. The rows
{trained} are detectors of their own, trained for as many iterations as
the first by `tools/studies/recipes/recipe_training.py` (`--finest 4`, `--size` or `--way`), and seeds scatter by a
point of AP between them; the other rows share the first one's weights. The [guide](guides/small_objects.md) says how to
use each way.
"""


def page(report: Mapping[str, Any]) -> str:
    """Build the page."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    trained = " and ".join([", ".join(list(TRAINED)[:-1]), list(TRAINED)[-1]])
    about = {"threads": thread_count(report["threads"]), "versions": versions, "trained": trained, "least": LEAST_SMALL}
    parts = [HEADER.format(**{key: report[key] for key in ("date", "processor")}, **about)]
    missing = dict(TRAINED)
    for name, table in report["tables"].items():
        parts.append(f"\n## {name}\n\n{_described(table)}\n\n{_table(table)}\n\n{_summary(table)}\n")
        parts.append("".join(f"\n    {command}\n" for command in table["commands"]))
        for way in table["rows"]:
            missing.pop(way, None)
    if missing:
        listed = "; ".join(f"{way} ({text})" for way, text in missing.items())
        parts.append(f"\n## Not measured yet\n\nWays that need a training of their own: {listed}.\n")
    return "".join(parts)


def _described(table: Mapping[str, Any]) -> str:
    return (
        f"{table['toolbox']}, {table['images']} pictures with {table['small']} small objects, images resized to "
        f"{table['size']} unless stated."
    )


def _table(table: Mapping[str, Any]) -> str:
    rows = table["rows"]
    kinds = [kind for kind in ("bbox", "segm") if kind in next(iter(rows.values()))["scores"]]
    names = {"bbox": "", "segm": " masks"}
    heads = ["way", *(f"{metric}{names[kind]}" for kind in kinds for metric in METRICS), "time"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for way, row in rows.items():
        values = [row["scores"].get(kind, {}).get(metric, -1) for kind in kinds for metric in METRICS]
        cells = [way, *("-" if value < 0 else f"{100 * value:.1f}" for value in values), f"{row['time']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _summary(table: Mapping[str, Any]) -> str:
    """Say which way gains most, and which gains without a loss of AP."""
    rows = table["rows"]
    base = rows[BASE]
    gains = {way: _gain(row, base, "AP_S") for way, row in rows.items() if way != BASE}
    best = max(gains, key=lambda way: gains[way])
    losing = [way for way, row in rows.items() if way != BASE and _gain(row, base, "AP") < 0]
    text = f"Most for small objects: {best}, {gains[best]:+.1f} AP_S at {rows[best]['time']:.1f} times the time."
    return text + (f" Less AP over all sizes than the detector as trained: {'; '.join(losing)}." if losing else "")


def _gain(row: Mapping[str, Any], base: Mapping[str, Any], metric: str) -> float:
    return 100 * float(row["scores"]["bbox"][metric] - base["scores"]["bbox"][metric])
