"""Recommend pyramids by the size of objects, from the results of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study_design import Study
from study_plots import SIZE_METRICS, draw_choice
from study_results import HARDLY_BEGUN, STILL_RISING, Summary, summarize
from study_tables import with_spread
from study_words import (
    CHOICE_INTRODUCTION,
    CHOICE_LIMITS,
    CHOICE_NO_RESULTS,
    SIZES_BELOW,
    detector_name,
    interval_of_two_errors,
)

ORDER = ("AP_S", "AP_M", "AP_L", "AP")  # the sizes, each with a figure, then all objects


@dataclass(frozen=True)
class Ranking:
    """Variants of one detector by the AP of objects of one size.

    Attributes:
        toolbox: name of the toolbox.
        head: name of the head.
        summaries: results, best first; their differences are from the best.
        leaders: names of the best and of those within two standard errors of it.
    """

    toolbox: str
    head: str
    summaries: tuple[Summary, ...]
    leaders: tuple[str, ...]


def rank(study: Study, results: Sequence[Mapping[str, Any]], metric: str) -> list[Ranking]:
    """Rank the study's shown variants by one metric of boxes, for each toolbox and head with two of them.

    A variant that was trained too briefly has no rank.
    """
    found = []
    for (toolbox, head), own in results_by_detector(study, results).items():
        means = {s.variant: s.mean[metric] for s in summarize(own, study.baseline) if not s.unfinished}
        known = {name: mean for name, mean in means.items() if mean is not None}
        if len(known) > 1:
            best = max(known, key=lambda name: known[name])
            rows = [row for row in summarize(own, best) if row.variant in known]
            rows.sort(key=lambda row: -known[row.variant])
            leaders = tuple(row.variant for row in rows if row.variant == best or not is_behind(row, metric))
            found.append(Ranking(toolbox, head, tuple(rows), leaders))
    return found


def is_behind(row: Summary, metric: str) -> bool:
    """Whether a variant is behind the best by more than two standard errors; with one seed, by any difference."""
    difference, error = row.difference[metric], row.error[metric]
    return difference is None or difference + 2 * (error or 0.0) < 0


def results_by_detector(
    study: Study, results: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Group the results of the shown variants by toolbox and head, in the study's order."""
    order = {name: index for index, name in enumerate(study.figure_variants())}
    shown = [result for result in results if result["cell"]["variant"]["name"] in order]
    shown.sort(key=lambda result: order[result["cell"]["variant"]["name"]])
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {
        (toolbox, head): [] for head in study.heads for toolbox in study.toolboxes
    }
    for result in shown:
        groups[result["cell"]["toolbox"], result["cell"]["head"]].append(result)
    return {key: group for key, group in groups.items() if group}


def leading(rankings: Sequence[Ranking]) -> list[tuple[str, int, int]]:
    """List the variants that lead, with the number of detectors that they lead in and of those that have them.

    The one that leads in most detectors comes first.
    """
    trained: dict[str, int] = {}
    leads: dict[str, int] = {}
    for ranking in rankings:
        for row in ranking.summaries:
            trained[row.variant] = trained.get(row.variant, 0) + 1
        for name in ranking.leaders:
            leads[name] = leads.get(name, 0) + 1
    return [(name, leads[name], trained[name]) for name in sorted(leads, key=lambda name: -leads[name])]


def recommendation(rankings: Sequence[Ranking]) -> str:
    """State which variants lead, and in how many detectors."""
    first, *others = (
        (name, f"in {number} of {of} detectors" if of > 1 else "in the only detector that was trained with it")
        for name, number, of in leading(rankings)
    )
    text = f"**`{first[0]}`** is the best, or within two standard errors of the best, {first[1]}"
    more = [f"`{name}` {where}" for name, where in others]
    return f"{text}; {', '.join(more)}." if more else f"{text}."


def table(rankings: Sequence[Ranking], metric: str) -> Iterator[str]:
    """Yield the lines of a table: the best and the next variant of each detector, and their difference."""
    yield f"| detector | best | {metric} | next | difference | |"
    yield "|---|---|--:|---|--:|---|"
    for ranking in rankings:
        best, following = ranking.summaries[:2]
        gap, error = following.difference[metric], following.error[metric]
        verdict = "one seed" if error is None else "clear" if is_behind(following, metric) else "not told apart"
        cells = [
            detector_name(ranking.toolbox, ranking.head),
            f"`{best.variant}`",
            with_spread(best.mean[metric], best.deviation[metric], digits=1),
            f"`{following.variant}`",
            with_spread(None if gap is None else -gap, error, "+", digits=1),
            verdict,
        ]
        yield f"| {' | '.join(cells)} |"


def designs(study: Study, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of the shown variants: description, and multiply-adds of each detector."""
    groups = {head: {} for head in study.heads}
    for (_, head), own in results_by_detector(study, results).items():
        groups[head] |= {row.variant: row.gmacs for row in summarize(own, study.baseline)}
    notes = {variant.name: variant.note for variant in study.variants}
    yield f"| name | pyramid | {' | '.join(f'{detector_name(None, head)}, GMACs' for head in groups)} |"
    yield f"|---|---|{'--:|' * len(groups)}"
    for name in study.figure_variants():
        costs = [f"{found[name]:.2f}" if name in found else "" for found in groups.values()]
        yield f"| `{name}` | {notes[name]} | {' | '.join(costs)} |"


def choice_page(study: Study, results: Sequence[Mapping[str, Any]], path: Path, details: Path) -> str:
    """Render the page that recommends pyramids, and draw its pictures into ``images`` beside it."""
    lines = [CHOICE_INTRODUCTION.format(title=study.title, details=details.name)]
    if not results:
        return "\n".join([*lines, CHOICE_NO_RESULTS])
    ranked = {metric: found for metric in ORDER if (found := rank(study, results, metric))}
    sizes = {
        metric: "objects of all sizes" if metric == "AP" else f"{SIZE_METRICS[metric]} objects" for metric in ORDER
    }
    short = [f"`{leading(rankings)[0][0]}` for {sizes[metric]}" for metric, rankings in ranked.items()]
    lines += [f"**In short**: {', '.join(short)}.", "", *designs(study, results), ""]
    for metric, rankings in ranked.items():
        size = SIZE_METRICS[metric]
        lines += [f"## {sizes[metric].capitalize()}", ""]
        lines += [SIZES_BELOW[metric], "", recommendation(rankings), ""]
        if metric != "AP":
            picture = path.parent / "images" / f"{path.stem}_{size}.png"
            detectors = {(r.toolbox, r.head): _in_order(study, r.summaries) for r in rankings}
            draw_choice(detectors, metric, picture)
            lines += [f"![Box AP of {size} objects by pyramid and detector](images/{picture.name})", ""]
        lines += [*table(rankings, metric), ""]
    seeds = sorted({result["cell"]["seed"] for result in results})
    facts = {
        "trainings": len(results),
        "seeds": len(seeds),
        "iterations": study.iterations,
        "data": ", ".join(sorted({result["data"]["folder"] for result in results})),
        "interval": interval_of_two_errors(len(seeds)),
        "details": details.name,
        "rising": 100 * STILL_RISING,
        "begun": 100 * HARDLY_BEGUN,
        "baseline": study.baseline,
        "unfinished": ", ".join(f"`{name}`" for name in unfinished_variants(study, results)) or "none",
    }
    return "\n".join([*lines, CHOICE_LIMITS.format(**facts)])


def unfinished_variants(study: Study, results: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the variants that were trained too briefly in at least one detector, in the study's order."""
    found = {row.variant for row in summarize(results, study.baseline) if row.unfinished}
    return [variant.name for variant in study.variants if variant.name in found]


def _in_order(study: Study, summaries: Sequence[Summary]) -> list[Summary]:
    return sorted(summaries, key=lambda row: study.figure_variants().index(row.variant))
