"""Write the pages of a study, with their tables and pictures, from the result files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_anchors import anchors
from study_choice import choice_page
from study_design import Study
from study_plots import draw_cost, draw_sizes
from study_results import HARDLY_BEGUN, STILL_RISING, ToolboxGap, Verdict, judge, toolbox_gaps
from study_tables import KIND_NAMES, groups, tables, with_spread
from study_words import ANCHORS_INTRODUCTION, INTRODUCTION, MEANING, TOOLBOX_COMPARISON, detector_name

from fpn_plugins.files import write_atomically

HERE = Path(__file__).resolve().parent


OUTCOMES = {
    "holds": "holds",
    "noise": "undecided: within two standard errors",
    "fails": "**does not hold**",
    "one seed": "one seed, no verdict",
    "unfinished": "undecided: still rising",
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
            rows = [row for row in summaries if row.variant in common and not row.unfinished]
            means = {row.variant: row.mean["AP"] or 0.0 for row in rows}
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


@dataclass(frozen=True)
class PageFiles:
    """Files of a study's pages: the page, the details beside it, and their data.

    The data of a page in ``docs/`` are in ``data/`` beside this script, those of another page beside the page.
    """

    page: Path

    @property
    def details(self) -> Path:
        """Page of all tables."""
        return self.page.with_name(f"{self.page.stem}_details.md")

    @property
    def results(self) -> Path:
        """Results as JSON."""
        published = self.page.resolve().parent == HERE.parents[2] / "docs"
        return (HERE / "data" if published else self.page.parent) / f"{self.page.stem}.json"

    @property
    def anchors(self) -> Path:
        """Result of `study_anchors.count_anchors` as JSON."""
        return self.results.with_name(f"{self.page.stem}_anchors.json")


def details_page(
    study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str, counted: Mapping[str, Any]
) -> str:
    """Render the page of all tables, and draw its pictures into ``images`` beside it.

    Args:
        study: the study.
        results: contents of the result files.
        path: path of the page that recommends; the details are beside it.
        baseline: variant to compare with.
        counted: result of `study_anchors.count_anchors`.
    """
    parts = [INTRODUCTION.format(title=study.title, choice=path.name)]
    parts.append(f"## Results\n\n{tables(study, results, baseline)}")
    if results:
        parts += [
            MEANING.format(baseline=baseline, rising=100 * STILL_RISING, begun=100 * HARDLY_BEGUN),
            expectations(study, results),
            toolbox_comparison(study, results, baseline),
            ANCHORS_INTRODUCTION,
            *(anchors(head, rows) for head, rows in counted.items()),
            _pictures(study, results, path, baseline),
            conditions(results),
        ]
    return "\n".join([*parts, *([study.remarks] if study.remarks else [])])


def write_page(
    study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str, counted: Mapping[str, Any]
) -> None:
    """Write the page, the details, the pictures of both into ``images`` beside them, and the data as JSON.

    Arguments are those of `details_page`.
    """
    files = PageFiles(path)
    for folder in (path.parent / "images", files.results.parent):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {
        files.details: details_page(study, results, path, baseline, counted),
        path: choice_page(study, results, path, files.details),
        files.results: json.dumps(list(results), indent=1) + "\n",
        files.anchors: json.dumps(counted, indent=1) + "\n",
    }
    for file, text in texts.items():
        with write_atomically(file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _pictures(study: Study, results: Sequence[Mapping[str, Any]], path: Path, baseline: str) -> str:
    folder = path.parent / "images"
    folder.mkdir(exist_ok=True)
    lines = ["## Pictures", ""]
    for toolbox, head, kind, summaries in groups(study, results, baseline):
        stem = f"{path.stem}_{toolbox}_{head}_{kind}"
        title = f"{detector_name(toolbox, head)}, {KIND_NAMES[kind]}"
        own = [result for result in results if (result["cell"]["toolbox"], result["cell"]["head"]) == (toolbox, head)]
        shown = [row for row in summaries if row.variant in study.figure_variants()]
        drawn = {"AP by object size": draw_sizes(summaries, folder / f"{stem}_sizes.png", title)}
        if shown:
            curves = own if kind == "bbox" else []
            text = "AP against multiply-adds" + (" and during training" if curves else "")
            drawn[text] = draw_cost(shown, curves, folder / f"{stem}_cost.png", title)
        lines += [f"![{text}: {title}]({os.path.relpath(file, path.parent)})\n" for text, file in drawn.items()]
    return "\n".join(lines)
