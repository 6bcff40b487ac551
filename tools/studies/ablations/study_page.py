"""The page of a study: tables, pictures and words, from the result files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study_configs import ANCHORS, PADDING
from study_design import METRICS, Study, anchor_sizes, head_levels
from study_plots import draw_cost, draw_curves, draw_sizes
from study_results import Agreement, Summary, Verdict, agreements, judge, summarize
from study_words import AGREEMENT, ANCHORS_INTRODUCTION, INTRODUCTION, MEANING

from fpn_plugins.analysis.anchor_reach import SIZES, AnchorReach, anchor_reach
from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically

KIND_NAMES = {"bbox": "boxes", "segm": "masks"}


def tables(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """What is missing, and one table per toolbox, head and kind of AP.

    Raises:
        ValueError: a baseline that is no variant of the study.
    """
    names = [variant.name for variant in study.variants]
    if baseline not in names:
        raise ValueError(f"baseline={baseline!r} must be one of the variants {names}")
    parts = [state(study, results)]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        parts.append(f"### {toolbox}, {head}, {KIND_NAMES[kind]}\n\n{_table(study, summaries, baseline)}")
    return "\n".join(parts)


def anchors(study: Study, head: str, data: Path) -> str:
    """Table of what the anchors of each layout of levels can reach with one head, of the variants trained with it."""
    layouts: dict[tuple[int, ...], list[str]] = {}
    trained = study.heads[head]
    for variant in (v for v in study.variants if trained is None or v.name in trained):
        layouts.setdefault(tuple(level.stride for level in head_levels(variant)), []).append(variant.name)
    columns = [f"{size}: best, from 0.5, positives" for size in SIZES]
    lines = [
        f"| {head}: strides of the levels | variants | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(SIZES)}",
    ]
    ann_file = find_split(data, "val").ann_file
    for strides, names in layouts.items():
        sizes = anchor_sizes(len(strides), *ANCHORS[head])
        reach = anchor_reach(ann_file, strides, sizes, divisibility=PADDING)
        cells = [_reach(reach[size]) if size in reach else "–" for size in SIZES]
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {', '.join(map(str, strides))} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _reach(reach: AnchorReach) -> str:
    return f"{reach.best_iou:.2f}, {100 * reach.covered:.0f} %, {reach.positives:.1f}"


OUTCOMES = {
    "holds": "holds",
    "noise": "not decided: within two standard errors",
    "fails": "**does not hold**",
    "one seed": "one seed, no verdict",
}


def expectations(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """What was expected, and what was found; without rows where there are no results of both sides."""
    lines = [
        "## Expected, and found",
        "",
        "Taken from what is said of FPN, not from these results. The best of the others counts, on boxes. What is to",
        "be better has to be so by more than twice the standard error of the difference; what is to be no worse has to",
        "be so with two standard errors less. What is not, but would be with two more, is not decided.",
        "",
        "| toolbox | head | expected | by whom | found | seeds | |",
        "|---|---|---|---|--:|--:|---|",
    ]
    return "\n".join([*lines, *(_row(verdict) for verdict in judge(results, study.expectations))]) + "\n"


def _row(verdict: Verdict) -> str:
    expected = verdict.expectation
    others = " and ".join(f"`{name}`" for name in expected.others)
    best = f" (against `{verdict.other}`)" if len(expected.others) > 1 else ""
    found = _pair(verdict.difference, verdict.error, "+")
    return (
        f"| {verdict.toolbox} | {verdict.head} | {expected.metric} of `{expected.variant}` - {others} >= "
        f"{expected.at_least:+g} | {expected.source} | {found}{best} | {verdict.seeds} | {OUTCOMES[verdict.outcome]} |"
    )


def agreement(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """The toolboxes side by side; nothing where no variant has two seeds in two of them."""
    lines = []
    for kind, name in KIND_NAMES.items():
        summaries = [row for group in groups(study, results, baseline) if group[2] == kind for row in group[3]]
        lines += [_agreement_row(found, name) for found in agreements(summaries, baseline, ("AP", "AP_S"))]
    if not lines:
        return ""
    return "\n".join([AGREEMENT.format(baseline=baseline), *lines, "", *_orders(study, results, baseline)]) + "\n"


def _agreement_row(found: Agreement, kind: str) -> str:
    each = [
        f"{toolbox} {_pair(gain, error, '+')}"
        for toolbox, gain, error in zip(found.toolboxes, found.differences, found.errors, strict=True)
    ]
    verdict = "agree" if found.within_noise else "**differ**"
    cells = [found.head, kind, f"`{found.variant}`", found.metric, *each, _pair(found.gap, found.error, "+"), verdict]
    return f"| {' | '.join(cells)} |"


def _orders(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> Iterable[str]:
    """The variants that every toolbox of the study has, by their mean AP of boxes."""
    found = [group for group in groups(study, results, baseline) if group[2] == "bbox"]
    for head in study.heads:
        own = [(toolbox, summaries) for toolbox, its_head, _, summaries in found if its_head == head]
        common = set.intersection(*({row.variant for row in summaries} for _, summaries in own)) if own else set()
        for toolbox, summaries in own if len(own) > 1 else ():
            means = {row.variant: row.mean["AP"] or 0.0 for row in summaries if row.variant in common}
            ranked = sorted(means, key=lambda name: -means[name])
            yield f"- {head}, {toolbox}, by AP of boxes: {', '.join(f'`{name}` {means[name]:.1f}' for name in ranked)}"


def state(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """Which of the study's trainings have results, in words."""
    total = len(study.cells())
    if not results:
        return f"**There are no results: none of the study's {total} trainings has been run.**\n"
    done = {(r["cell"]["variant"]["name"], r["cell"]["head"], r["cell"]["toolbox"], r["cell"]["seed"]) for r in results}
    missing = [c.name for c in study.cells() if (c.variant.name, c.head, c.toolbox, c.seed) not in done]
    if not missing:
        return f"All {total} trainings have results.\n"
    return f"**Results are missing: {len(missing)} of {total} trainings have not been run**: {', '.join(missing)}.\n"


def groups(
    study: Study, results: Sequence[Mapping[str, Any]], baseline: str
) -> Iterable[tuple[str, str, str, list[Summary]]]:
    """Toolbox, head, kind of AP and the summaries, in the study's order; groups without results are left out."""
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
    columns = [*METRICS, *(f"Δ {metric}" for metric in METRICS if metric != "AP50"), "GMACs", "parameters (M)"]
    lines = [
        f"| variant | what it is | seeds | {' | '.join(columns)} |",
        f"|---|---|--:|{'--:|' * len(columns)}",
    ]
    for row in summaries:
        values = [_pair(row.mean[metric], row.deviation[metric]) for metric in METRICS]
        compared = [metric for metric in METRICS if metric != "AP50"]
        if row.variant == baseline:
            gains = ["baseline", *[""] * (len(compared) - 1)]
        else:
            gains = [_pair(row.difference[metric], row.error[metric], "+") for metric in compared]
        cells = [*values, *gains, f"{row.gmacs:.2f}", f"{row.parameters / 1e6:.2f}"]
        lines.append(f"| `{row.variant}` | {notes[row.variant]} | {len(row.seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _pair(value: float | None, spread: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def conditions(results: Sequence[Mapping[str, Any]]) -> str:
    """Hardware, versions, seeds and hours of the results."""

    def each(key: str) -> list[str]:
        return sorted({json.dumps(result[key], sort_keys=True) for result in results})

    lines = [
        f"- hardware: {'; '.join(json.loads(text) for text in each('hardware'))}",
        *(
            f"- versions: {', '.join(f'{name} {version}' for name, version in json.loads(text).items())}"
            for text in each("versions")
        ),
        f"- data: {', '.join(sorted({result['data']['folder'] for result in results}))}",
        f"- iterations of a training: {', '.join(sorted({str(r['study']['iterations']) for r in results}))}",
        f"- seeds: {', '.join(map(str, sorted({result['cell']['seed'] for result in results})))}",
        f"- time: {sum(result['seconds'] for result in results) / 3600:.2f} hours for {len(results)} trainings",
    ]
    return "## Conditions\n\n" + "\n".join(lines) + "\n"


def write_page(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str, data: Path) -> None:
    """Write the page, its pictures into ``images`` beside it, and the results that it is made of as JSON.

    Args:
        study: what was to be run.
        results: content of the result files.
        path: of the page.
        baseline: variant to compare with.
        data: folder of the data set.
    """
    found = tables(study, results, baseline)
    parts = [INTRODUCTION.format(title=study.title), f"## Results\n\n{found}"]
    if results:
        parts += [
            MEANING.format(baseline=baseline),
            expectations(study, results),
            agreement(study, results, baseline),
            ANCHORS_INTRODUCTION,
            *(anchors(study, head, data) for head in study.heads),
            _pictures(study, results, path, baseline),
            conditions(results),
        ]
    parts += [study.remarks] if study.remarks else []
    with write_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(list(results), indent=1) + "\n", encoding="utf-8")
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


def _pictures(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str) -> str:
    folder = path.parent / "images"
    folder.mkdir(exist_ok=True)
    lines = ["## Pictures", ""]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        stem = f"{path.stem}_{toolbox}_{head}_{kind}"
        title = f"{study.title}: {toolbox}, {head}, {KIND_NAMES[kind]}"
        own = [result for result in results if (result["cell"]["toolbox"], result["cell"]["head"]) == (toolbox, head)]
        drawn = [
            (draw_sizes(summaries, folder / f"{stem}_sizes.png", title), "AP by size of the object"),
            (draw_cost(summaries, folder / f"{stem}_cost.png", title), "AP against multiply-adds"),
        ]
        if kind == "bbox":
            drawn.append((draw_curves(own, folder / f"{stem}_curves.png", title), "AP over the training"))
        lines += [f"![{text}, {title}]({os.path.relpath(file, path.parent)})\n" for file, text in drawn]
    return "\n".join(lines)
