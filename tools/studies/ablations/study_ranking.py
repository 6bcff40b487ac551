"""Rank the variants of a study by results that hold in every seed and at two lengths of training."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from study_design import Study
from study_page import HERE, conditions
from study_tables import with_spread
from study_words import RANKING_INTRODUCTION, RANKING_LIMITS, TOOLBOX_NAMES

from fpn_plugins.files import write_atomically
from fpn_plugins.visualization.figures import COLORS, MUTED, axis_label, legend_below, plot

LENGTHS = ("full", "half")
Rank = Literal["better", "worse", "tie", "unfinished"]
RANK_WORDS = {"better": "**better**", "worse": "**worse**", "tie": "tie", "unfinished": "not finished"}
RankResults = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class RankedVariant:
    """A variant's box AP, and its differences from the baseline seed by seed, in percent.

    Attributes:
        name: name of the variant.
        ap: toolbox and length -> AP of each seed.
        gains: toolbox and length -> difference from the baseline, for the seeds that both have.
        rank: ``"better"`` or ``"worse"`` if the differences of all the study's seeds in the first toolbox have that
            sign at both lengths, ``"tie"`` if two of them differ, ``"unfinished"`` if some are missing.
        small: AP_S of each seed in the first toolbox at full length.
        gmacs: 1e9 multiply-adds of the detector.
        parameters: number of parameters of the detector.
    """

    name: str
    ap: Mapping[tuple[str, str], tuple[float, ...]]
    gains: Mapping[tuple[str, str], tuple[float, ...]]
    rank: Rank
    small: tuple[float, ...]
    gmacs: float
    parameters: int


def ranked(study: Study, results: RankResults) -> list[RankedVariant]:
    """Rank the variants that have results, best first in the study's first toolbox.

    Args:
        study: a study with one head.
        results: ``"full"`` and ``"half"`` -> results of the study and of `Study.half`.
    """
    found: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
    small: dict[str, dict[int, float]] = {}
    costs = {}
    first = next(iter(study.toolboxes))
    for length in LENGTHS:
        for result in results[length]:
            cell, name = result["cell"], result["cell"]["variant"]["name"]
            own = found.setdefault(name, {}).setdefault((cell["toolbox"], length), {})
            own[cell["seed"]] = 100 * result["scores"]["bbox"]["AP"]
            if (cell["toolbox"], length) == (first, "full"):
                small.setdefault(name, {})[cell["seed"]] = 100 * result["scores"]["bbox"]["AP_S"]
            costs[name] = result["cost"]
    rows = [
        _row(study, name, own, found.get(study.baseline, {}), small.get(name, {}), costs[name])
        for name, own in found.items()
    ]
    return sorted(rows, key=lambda row: -statistics.fmean(row.ap.get((first, "full"), (0.0,))))


def _row(
    study: Study, name: str, own: Any, base: Any, small: Mapping[int, float], cost: Mapping[str, Any]
) -> RankedVariant:
    gains = {
        key: tuple(of_seed[seed] - base[key][seed] for seed in sorted(of_seed) if seed in base.get(key, {}))
        for key, of_seed in own.items()
    }
    ap = {key: tuple(of_seed[seed] for seed in sorted(of_seed)) for key, of_seed in own.items()}
    sizes = tuple(small[seed] for seed in sorted(small))
    return RankedVariant(name, ap, gains, _rank(study, gains), sizes, cost["macs"] / 1e9, cost["parameters"])


def _rank(study: Study, gains: Mapping[tuple[str, str], tuple[float, ...]]) -> Rank:
    first = next(iter(study.toolboxes))
    values = [gains.get((first, length), ()) for length in LENGTHS]
    signs = {(gain > 0) - (gain < 0) for of_length in values for gain in of_length}
    if len(signs) < 2 and any(len(of_length) < len(study.seeds_in(first)) for of_length in values):
        return "unfinished"
    return "better" if signs == {1} else "worse" if signs == {-1} else "tie"


def _cell(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "–"
    spread = statistics.stdev(values) if len(values) > 1 else None
    return with_spread(statistics.fmean(values), spread, sign, digits=1)


def ranking_table(study: Study, rows: Sequence[RankedVariant]) -> Iterator[str]:
    """Yield the lines of the table: AP, differences in each toolbox at both lengths, rank and cost."""
    first, *others = study.toolboxes
    notes = {variant.name: variant.note for variant in study.variants}
    columns = ["AP", "Δ, full length", "Δ, half length", "rank"]
    columns += [f"Δ, {TOOLBOX_NAMES[toolbox]}" for toolbox in others]
    yield f"| neck | | seeds | {' | '.join(columns)} | AP_S | GMACs | parameters (M) |"
    yield f"|---|---|--:|--:|--:|--:|---|{'--:|' * (len(others) + 3)}"
    for row in rows:
        base = row.name == study.baseline
        gains = ["", ""] if base else [_cell(row.gains.get((first, length), ()), "+") for length in LENGTHS]
        theirs = ["" if base else _cell(row.gains.get((toolbox, "full"), ()), "+") for toolbox in others]
        ap = row.ap.get((first, "full"), ())
        rank = "baseline" if base else RANK_WORDS[row.rank]
        cost = [f"{row.gmacs:.2f}", f"{row.parameters / 1e6:.2f}"]
        cells = [_cell(ap), *gains, rank, *theirs, _cell(row.small), *cost]
        yield f"| `{row.name}` | {notes.get(row.name, '')} | {len(ap)} | {' | '.join(cells)} |"


def draw_ranking(study: Study, rows: Sequence[RankedVariant], path: str | os.PathLike[str]) -> Path:
    """Draw the difference of each variant from the baseline, a point per seed and length, and AP against cost."""
    first = next(iter(study.toolboxes))
    shown = [row for row in rows if row.name != study.baseline]
    with plot(path, 1.4 + 0.24 * len(rows)) as figure:
        left, right = figure.subplots(1, 2)
        for length, color, marker, shift in zip(LENGTHS, COLORS, "os", (-0.12, 0.12), strict=False):
            points = [(gain, at + shift) for at, row in enumerate(shown) for gain in row.gains.get((first, length), ())]
            if points:
                left.plot(*zip(*points, strict=True), marker, color=color, label=f"{length} length, one seed")
        left.axvline(0, color=MUTED, linewidth=0.8)
        left.set_yticks(range(len(shown)), [row.name for row in shown])
        left.set_ylim(len(shown) - 0.5, -0.5)
        left.grid(axis="x")
        left.set_xlabel(axis_label(f"AP minus that of {study.baseline}", "%", "higher"))
        trained = [row for row in rows if row.ap.get((first, "full"))]
        for row in trained:
            right.plot(row.gmacs, statistics.fmean(row.ap[first, "full"]), "o", color=COLORS[0])
        right.set_xlabel(axis_label("multiply-adds of the detector", "billions", "lower"))
        right.set_ylabel(axis_label("AP", "%", "higher"))
        right.margins(x=0.25)
        right.grid()
        legend_below(figure)
        _name_points(right, {row.name: (row.gmacs, statistics.fmean(row.ap[first, "full"])) for row in trained})
    return Path(path)


def _name_points(axis: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write the name of each point beside it, above the names that it would cross."""
    axis.figure.draw_without_rendering()  # the layout and the limits are final
    placed: list[Any] = []
    for name, point in sorted(points.items(), key=lambda item: item[1][1]):
        text = axis.annotate(name, point, (4, -2), textcoords="offset points", size=7)
        while any(text.get_window_extent().overlaps(other) for other in placed):
            text.xyann = (4, text.xyann[1] + 2)
        placed.append(text.get_window_extent())


def length_check(study: Study, results: RankResults) -> str:
    """State whether the baseline's AP still rises between half and full length."""
    first = next(iter(study.toolboxes))
    (row,) = (row for row in ranked(study, results) if row.name == study.baseline)
    means = [statistics.fmean(row.ap[first, length]) for length in LENGTHS]
    return (
        f"`{study.baseline}` reaches {means[1]:.1f} AP in {study.iterations // 2} iterations and {means[0]:.1f} in "
        f"{study.iterations}: twice the training brings {means[0] - means[1]:+.1f}.\n{last_rises(study, results)}"
    )


def last_rises(study: Study, results: RankResults) -> str:
    """State how the baseline's AP changes from the last evaluation but one to the last, seed by seed."""
    cells = [
        (result["cell"]["seed"], result["curve"][-2:])
        for result in results["full"]
        if result["cell"]["variant"]["name"] == study.baseline
        and result["cell"]["toolbox"] == next(iter(study.toolboxes))
    ]
    changes = [
        f"{100 * (last['AP'] - before['AP']):+.1f}" for _, (before, last) in sorted(cells, key=lambda cell: cell[0])
    ]
    start = cells[0][1][0]["iteration"]
    return f"From iteration {start} to {study.iterations} it changes by {', '.join(changes)} in its trainings."


def ranking_page(study: Study, results: RankResults, path: Path) -> str:
    """Render the page, and draw its picture into ``images`` beside it.

    Raises:
        ValueError: the baseline has no results at both lengths.
    """
    rows = ranked(study, results)
    first = next(iter(study.toolboxes))
    base = {key for row in rows if row.name == study.baseline for key in row.ap}
    if not {(first, length) for length in LENGTHS} <= base:
        raise ValueError(f"{study.baseline} has no result at full and half length yet; a ranking needs both")
    picture = draw_ranking(study, rows, path.parent / "images" / f"{path.stem}.png")
    trained, planned = (
        sum(map(len, results.values())),
        len(study.cells()) + len(study.half().cells()),
    )
    facts = {
        "title": study.title,
        "seeds": len(study.seeds_in(first)),
        "baseline": study.baseline,
        "iterations": study.iterations,
        "half": study.iterations // 2,
        "toolbox": TOOLBOX_NAMES[first],
        "check": length_check(study, results),
        "trained": trained,
        "planned": planned,
    }
    return "\n".join(
        [
            RANKING_INTRODUCTION.format(**facts),
            *ranking_table(study, rows),
            "",
            f"![Difference of each neck from {study.baseline}, and AP against cost](images/{picture.name})",
            "",
            RANKING_LIMITS.format(**facts),
            conditions([result for length in LENGTHS for result in results[length]]),
            *([study.remarks] if study.remarks else []),
        ]
    )


def results_file(page: Path) -> Path:
    """Path of the results of a ranking: in ``data/`` beside this script for a page in ``docs/``, else beside it."""
    published = page.resolve().parent == HERE.parents[2] / "docs"
    return (HERE / "data" if published else page.parent) / f"{page.stem}.json"


def write_ranking(study: Study, results: RankResults, page: Path) -> None:
    """Write the page, its picture, and the results as JSON."""
    file = results_file(page)
    for folder in (page.parent / "images", file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    texts = {page: ranking_page(study, results, page), file: json.dumps(dict(results), indent=1) + "\n"}
    for target, text in texts.items():
        with write_atomically(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
