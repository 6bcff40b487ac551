"""Write the page of a study, with its tables and pictures, from the result files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchor_reach import SIZE_CLASSES, AnchorReach, anchor_reach
from study_bases import ANCHORS, PADDING
from study_design import Study
from study_levels import head_levels, shared_anchor_sizes
from study_plots import draw_cost, draw_curves, draw_sizes
from study_results import ToolboxGap, Verdict, judge, toolbox_gaps
from study_tables import KIND_NAMES, groups, tables, with_spread
from study_words import ANCHORS_INTRODUCTION, INTRODUCTION, MEANING, TOOLBOX_COMPARISON

from fpn_plugins.data import find_split
from fpn_plugins.files import write_atomically


def anchors(study: Study, head: str, data: Path) -> str:
    """Make a table of how well the anchors of each layout of levels cover the objects, for the variants of a head."""
    layouts: dict[tuple[int, ...], list[str]] = {}
    trained = study.heads[head]
    for variant in (v for v in study.variants if trained is None or v.name in trained):
        layouts.setdefault(tuple(level.stride for level in head_levels(variant)), []).append(variant.name)
    columns = [f"{size}: best IoU, covered, positives" for size in SIZE_CLASSES]
    lines = [
        f"| {head}: strides of the levels | variants | {' | '.join(columns)} |",
        f"|---|---|{'---|' * len(SIZE_CLASSES)}",
    ]
    ann_file = find_split(data, "val").ann_file
    for strides, names in layouts.items():
        sizes = shared_anchor_sizes(len(strides), *ANCHORS[head])
        reach = anchor_reach(ann_file, strides, sizes, divisibility=PADDING)
        cells = [_reach(reach[size]) if size in reach else "–" for size in SIZE_CLASSES]
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {', '.join(map(str, strides))} | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _reach(reach: AnchorReach) -> str:
    return f"{reach.best_iou:.2f}, {100 * reach.covered:.0f} %, {reach.positives:.1f}"


OUTCOMES = {
    "holds": "holds",
    "noise": "undecided: within two standard errors",
    "fails": "**does not hold**",
    "one seed": "one seed, no verdict",
}


def expectations(study: Study, results: Sequence[Mapping[str, Any]]) -> str:
    """Compare expected with measured differences; expectations without results of both sides have no row."""
    lines = [
        "## Expected and measured",
        "",
        "Expectations are common claims about FPN and results of its paper; none is derived from these results. They",
        "concern boxes and the best of the other variants. An expected gain holds if the measured difference reaches",
        "it and exceeds zero by two standard errors; an expected loss has to hold with two standard errors subtracted.",
        "The outcome is undecided if the expectation holds only with two standard errors added.",
        "",
        "| toolbox | head | expected | source | measured | seeds | |",
        "|---|---|---|---|--:|--:|---|",
    ]
    return "\n".join([*lines, *(_row(verdict) for verdict in judge(results, study.expectations))]) + "\n"


def _row(verdict: Verdict) -> str:
    expected = verdict.expectation
    others = " and ".join(f"`{name}`" for name in expected.others)
    best = f" (against `{verdict.other}`)" if len(expected.others) > 1 else ""
    found = with_spread(verdict.difference, verdict.error, "+")
    return (
        f"| {verdict.toolbox} | {verdict.head} | {expected.metric} of `{expected.variant}` - {others} >= "
        f"{expected.at_least:+g} | {expected.source} | {found}{best} | {verdict.seeds} | {OUTCOMES[verdict.outcome]} |"
    )


def toolbox_comparison(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """Compare the toolboxes; return an empty text if no variant has two seeds in two of them."""
    lines = []
    for kind, name in KIND_NAMES.items():
        summaries = [row for group in groups(study, results, baseline) if group[2] == kind for row in group[3]]
        lines += [_gap_row(found, name) for found in toolbox_gaps(summaries, baseline, ("AP", "AP_S"))]
    if not lines:
        return ""
    return (
        "\n".join([TOOLBOX_COMPARISON.format(baseline=baseline), *lines, "", *_orders(study, results, baseline)]) + "\n"
    )


def _gap_row(found: ToolboxGap, kind: str) -> str:
    each = [
        f"{toolbox} {with_spread(gain, error, '+')}"
        for toolbox, gain, error in zip(found.toolboxes, found.differences, found.errors, strict=True)
    ]
    verdict = "agree" if found.within_noise else "**differ**"
    cells = [
        found.head,
        kind,
        f"`{found.variant}`",
        found.metric,
        *each,
        with_spread(found.gap, found.error, "+"),
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _orders(study: Study, results: Sequence[Mapping[str, Any]], baseline: str) -> Iterable[str]:
    """Rank the variants that every toolbox has by their mean box AP."""
    found = [group for group in groups(study, results, baseline) if group[2] == "bbox"]
    for head in study.heads:
        own = [(toolbox, summaries) for toolbox, its_head, _, summaries in found if its_head == head]
        common = set.intersection(*({row.variant for row in summaries} for _, summaries in own)) if own else set()
        for toolbox, summaries in own if len(own) > 1 else ():
            means = {row.variant: row.mean["AP"] or 0.0 for row in summaries if row.variant in common}
            ranked = sorted(means, key=lambda name: -means[name])
            yield f"- {head}, {toolbox}, by box AP: {', '.join(f'`{name}` {means[name]:.1f}' for name in ranked)}"


def conditions(results: Sequence[Mapping[str, Any]]) -> str:
    """List hardware, versions, data, seeds and hours of the results."""

    def each(key: str) -> list[str]:
        return sorted({json.dumps(result[key], sort_keys=True) for result in results})

    lines = [
        f"- hardware: {'; '.join(json.loads(text) for text in each('hardware'))}",
        *(
            f"- versions: {', '.join(f'{name} {version}' for name, version in json.loads(text).items())}"
            for text in each("versions")
        ),
        f"- data: {', '.join(sorted({result['data']['folder'] for result in results}))}",
        f"- iterations per training: {', '.join(sorted({str(r['study']['iterations']) for r in results}))}",
        f"- seeds: {', '.join(map(str, sorted({result['cell']['seed'] for result in results})))}",
        f"- time: {sum(result['seconds'] for result in results) / 3600:.2f} hours for {len(results)} trainings",
    ]
    return "## Conditions\n\n" + "\n".join(lines) + "\n"


def write_page(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str, data: Path) -> None:
    """Write the page, its pictures into ``images`` beside it, and its results as JSON.

    Args:
        study: the study.
        results: contents of the result files.
        path: path of the page.
        baseline: variant to compare with.
        data: folder of the data set.
    """
    found = tables(study, results, baseline)
    parts = [INTRODUCTION.format(title=study.title), f"## Results\n\n{found}"]
    if results:
        parts += [
            MEANING.format(baseline=baseline),
            expectations(study, results),
            toolbox_comparison(study, results, baseline),
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
            (draw_sizes(summaries, folder / f"{stem}_sizes.png", title), "AP by object size"),
            (draw_cost(summaries, folder / f"{stem}_cost.png", title), "AP against multiply-adds"),
        ]
        if kind == "bbox":
            drawn.append((draw_curves(own, folder / f"{stem}_curves.png", title), "AP during training"))
        lines += [f"![{text}, {title}]({os.path.relpath(file, path.parent)})\n" for file, text in drawn]
    return "\n".join(lines)
