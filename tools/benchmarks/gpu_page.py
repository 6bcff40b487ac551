"""Render the report of `gpu.py` as Markdown: goals, one table per section, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_goals import GOALS, NOTHING_SLOWER, PEERS, Row, best, groups, ratios, sections, slowest, verdict

TITLES = {
    "parity": "Modules against their CPU results",
    "vitdet": "Mask R-CNN with ViTDet-B",
    "attention": "Attention with relative positions",
    "windows": "Attention in Swin's windows",
    "rotary": "ViTs with rotary positions",
    "necks": "Necks",
    "backbones": "Backbones",
    "detectors": "Detectors",
}
HEAD = """# On a GPU

{measured}

Time in ms and peak memory in MiB beyond weights and inputs (medians of interleaved runs); in parentheses the ratio of
our time to the fastest toolbox's, lower is better. Inference is a forward pass without gradients; training is forward
and backward. Toolboxes: {peers}; `stock` is the toolbox's own detector.
"""


def page(report: Mapping[str, Any]) -> str:
    """Build the page of a report."""
    by_section = sections(report)
    blocks = [HEAD.format(measured=measured(report), peers=", ".join(f"`{who}`" for who in PEERS if who != "stock"))]
    if report.get("notes"):
        blocks.append("\n".join(f"- {note}" for note in report["notes"]) + "\n")
    blocks.append("## Goals\n\n" + table(("", "mode", "at most", "measured", ""), list(goal_lines(by_section)), 2))
    for section, title in TITLES.items():
        rows = by_section.get(section, [])
        tables = [
            *dates_line(section, report),
            *parity_table(rows),
            *times_table(rows),
            *roofline_table(rows),
            *differences_table(rows),
        ]
        if tables:
            blocks.append(f"## {title}\n\n" + "\n".join(tables))
    failed = list(failures(report))
    if failed:
        blocks.append("## Not measured\n\n" + "\n".join(f"- {line}" for line in failed) + "\n")
    return "\n".join(blocks)


def measured(report: Mapping[str, Any]) -> str:
    """First sentence: when, how and on which machine."""
    parts = [part for part in report["parts"] if not earlier(part, report)]
    commands = [command for command in dict.fromkeys(part.get("command") for part in parts) if command]
    how = " by " + ", ".join(f"`{command}`" for command in commands) if commands else ""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"Measured on {report['date']}{how} on one {report['device']}, with {versions}, Python {report['python']}."


def earlier(part: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Return whether a part is from an earlier run than the last one."""
    return bool(part.get("date", report["date"]) != report["date"])


def dates_line(section: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Say which rows of a section are from an earlier run."""
    parts = [part for part in report["parts"] if part["section"] == section]
    before = sorted({part["date"] for part in parts if earlier(part, report)})
    if before:
        which = "All rows are" if all(earlier(part, report) for part in parts) else "Rows without a newer value are"
        yield f"{which} of {', '.join(before)}, with an earlier revision of this package.\n"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Render a table whose first ``texts`` columns are text and whose others are numbers."""
    marks = ["---" if index < texts else "---:" for index in range(len(head))]
    rows = [head, *lines]
    cells = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([cells[0], f"|{'|'.join(marks)}|", *cells[1:], ""])


def goal_lines(by_section: Mapping[str, list[Row]]) -> Iterator[tuple[str, ...]]:
    """Render a line per goal."""
    for goal in GOALS:
        found = best(goal, by_section.get(goal.section, []))
        measured = (
            ("not measured", "")
            if found is None
            else (f"{found.ratio:.2f} ({found.who})", verdict(found.ratio, goal.most))
        )
        yield goal.text, goal.mode, f"{goal.most:.2f}", *measured
    worst = slowest(by_section)
    if worst is not None:
        place = f"{label(worst.row)}, {worst.row.get('precision', '')}"
        yield NOTHING_SLOWER, worst.row["mode"], "1.00", f"{worst.ratio:.2f} ({place})", verdict(worst.ratio, 1)


def label(row: Row) -> str:
    """Name the case of a row."""
    names = [str(row[key]) for key in ("toolbox", "detector", "model", "case") if key in row]
    if "side" in row:
        keys = row.get("key_side", row["side"])
        names.append(f"{row['side']} x {row['side']}" + (f" to {keys} x {keys}" if keys != row["side"] else ""))
    if "size" in row:
        names.append(" x ".join(map(str, row["size"])))
    names += [f"batch {row['batch']}"] if "batch" in row else []
    names += ["shifted"] if row.get("shifted") else []
    names += [row["layout"]] if "layout" in row else []
    return ", ".join(names)


def parity_table(rows: Sequence[Row]) -> Iterator[str]:
    """Render the largest relative differences of maps and gradients per module."""
    own = [row for row in rows if "way" in row]
    ways = list(dict.fromkeys(row["way"] for row in own))
    modules = list(dict.fromkeys(row["module"] for row in own))
    if own:
        cells = {(row["module"], row["way"]): f"{row['maps']:.0e} / {row['gradients']:.0e}" for row in own}
        lines = [[module, *(cells.get((module, way), "") for way in ways)] for module in modules]
        yield "Largest relative difference of maps / gradients from float32 on the CPU.\n"
        yield table(["module", *ways], lines)


def times_table(rows: Sequence[Row]) -> Iterator[str]:
    """Render time and memory, a line per case and a column per form."""
    timed = [row for row in rows if "ms" in row or "time_ratio" in row]
    forms = list(dict.fromkeys(row["who"] for row in timed))
    lines = []
    for group in groups(timed):
        found = {ratio.who: ratio.ratio for ratio in ratios(group)}
        cells = {row["who"]: time_cell(row, found.get(row["who"])) for row in group}
        first = group[0]
        lines.append([label(first), first.get("precision", ""), first["mode"], *(cells.get(who, "") for who in forms)])
    if lines:
        yield table(["case", "precision", "mode", *forms], lines, 3)


def time_cell(row: Row, ratio: float | None) -> str:
    """Render time, memory and ratio of a row, or the ratios that it states."""
    if "ms" not in row:
        memory = f", memory {row['memory_ratio']:.2f}" if "memory_ratio" in row else ""
        return f"{row['time_ratio']:.2f} of {row['peer']}{memory}"
    memory = f" / {row['mib']:.0f}" if "mib" in row else ""
    return f"{row['ms']:.3g}{memory}" + ("" if ratio is None else f" ({ratio:.2f})")


def roofline_table(rows: Sequence[Row]) -> Iterator[str]:
    """Render which share of the time the device's measured speed would need at least for our work."""
    own = [row for row in rows if "roofline" in row]
    forms = list(dict.fromkeys(row["who"] for row in own))
    lines = []
    for group in groups(own):
        cells = {row["who"]: f"{row['roofline']:.2f}" for row in group}
        first = group[0]
        lines.append([label(first), first["precision"], first["mode"], *(cells.get(who, "") for who in forms)])
    if lines:
        yield "Share of the roofline: least time for our products and traffic at the measured speed / time.\n"
        yield table(["case", "precision", "mode", *forms], lines, 3)


def differences_table(rows: Sequence[Row]) -> Iterator[str]:
    """Render differences from a definition or a peer, and the share of equal detections."""
    own = [row for row in rows if "difference" in row or "share" in row]
    if own:
        yield "Agreement: largest relative difference, or share of the toolbox's detections that are found.\n"
        lines = [
            [label(row), row.get("precision", "float32"), row["who"], f"{row.get('difference', row.get('share')):.2g}"]
            for row in own
        ]
        yield table(["case", "precision", "", "agreement"], lines, 3)


def failures(report: Mapping[str, Any]) -> Iterator[str]:
    """Describe parts that did not complete, and rows with an error or of something that is not installed."""
    for part in report["parts"]:
        if part["status"] != "complete":
            status = "only in part, as the run was stopped" if part["status"] == "running" else part["status"]
            yield f"{part['part']}: {status}"
        for row in part["rows"]:
            reason = row.get("error", row.get("skipped"))
            if reason is not None:
                place = ", ".join(filter(None, (label(row), str(row.get("module", "")), str(row.get("who", "")))))
                more = " ".join(str(row[key]) for key in ("precision", "mode", "way") if key in row)
                yield f"{part['section']}: {place} {more}: {reason}".replace("|", "/")
