"""Tables of a study's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study_design import STUDY_METRICS, Study
from study_results import Summary, summarize

KIND_NAMES = {"bbox": "boxes", "segm": "masks"}


def tables(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """State which results are missing, and make one table per toolbox, head and kind of AP.

    Raises:
        ValueError: the baseline is not a variant of the study.
    """
    names = [variant.name for variant in study.variants]
    if baseline not in names:
        raise ValueError(f"baseline={baseline!r} must be one of the variants {names}")
    parts = [state(study, results)]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        parts.append(f"### {toolbox}, {head}, {KIND_NAMES[kind]}\n\n{_table(study, summaries, baseline)}")
    return "\n".join(parts)


def state(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """Sentence that states which trainings have results."""
    total = len(study.cells())
    if not results:
        return f"**No results: none of the study's {total} trainings has been run.**\n"
    done = {(r["cell"]["variant"]["name"], r["cell"]["head"], r["cell"]["toolbox"], r["cell"]["seed"]) for r in results}
    missing = [c.name for c in study.cells() if (c.variant.name, c.head, c.toolbox, c.seed) not in done]
    if not missing:
        return f"All {total} trainings have results.\n"
    return f"**Results are missing: {len(missing)} of {total} trainings have not been run**: {', '.join(missing)}.\n"


def groups(
    study: Study, results: Sequence[Mapping[str, Any]], baseline: str
) -> Iterable[tuple[str, str, str, list[Summary]]]:
    """Yield toolbox, head, kind of AP and summaries in the study's order, without groups that have no results."""
    order = [variant.name for variant in study.variants]
    for kind in KIND_NAMES:
        summaries = sorted(summarize(results, baseline, kind), key=lambda summary: order.index(summary.variant))
        for toolbox in study.toolboxes:
            for head in study.heads:
                chosen = [s for s in summaries if (s.toolbox, s.head) == (toolbox, head)]
                if chosen:
                    yield toolbox, head, kind, chosen


def _table(study: Study, summaries: Sequence[Summary], baseline: str) -> str:
    notes = {variant.name: variant.note for variant in study.variants}
    compared = [metric for metric in STUDY_METRICS if metric != "AP50"]
    columns = [*STUDY_METRICS, *(f"Δ {metric}" for metric in compared), "GMACs", "parameters (M)"]
    lines = [
        f"| variant | description | seeds | {' | '.join(columns)} |",
        f"|---|---|--:|{'--:|' * len(columns)}",
    ]
    for row in summaries:
        values = [with_spread(row.mean[metric], row.deviation[metric]) for metric in STUDY_METRICS]
        if row.variant == baseline:
            gains = ["baseline", *[""] * (len(compared) - 1)]
        else:
            gains = [with_spread(row.difference[metric], row.error[metric], "+") for metric in compared]
        cells = [*values, *gains, f"{row.gmacs:.2f}", f"{row.parameters / 1e6:.2f}"]
        note = f"{notes[row.variant]} (**still rising: not ranked**)" if row.unfinished else notes[row.variant]
        lines.append(f"| `{row.variant}` | {note} | {len(row.seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_spread(value: float | None, spread: float | None, sign: str = "", digits: int = 2) -> str:
    """Format a value and, if known, its spread; a value of `None` is a dash."""
    if value is None:
        return "–"
    return f"{value:{sign}.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
