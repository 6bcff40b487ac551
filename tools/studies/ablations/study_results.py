"""Statistics of the results of an ablation study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from study_design import STUDY_METRICS, Expectation

RunResult = Mapping[str, Any]
# A training is too short for a variant whose AP still gained more than this share of itself after the last evaluation
# but one, or stayed below this share of the baseline's, as in a training that has hardly begun.
STILL_RISING, HARDLY_BEGUN = 0.2, 0.2


@dataclass(frozen=True)
class Summary:
    """Results of a variant over its seeds, in one toolbox with one head; AP in percent.

    Attributes:
        variant: name of the variant.
        head: name of the head.
        toolbox: name of the toolbox.
        seeds: seeds that have results.
        mean: mean of each metric; ``None`` if the data set has no object of that size.
        deviation: standard deviation over the seeds (n - 1); ``None`` with fewer than two.
        difference: mean difference from the baseline over the seeds that both have; ``None`` without any.
        error: standard error of that difference; ``None`` with fewer than two such seeds.
        gmacs: 1e9 multiply-adds of the whole detector for one image.
        parameters: number of parameters of the whole detector.
        unfinished: whether the trainings were too short to rank the variant; see `STILL_RISING` and `HARDLY_BEGUN`.
    """

    variant: str
    head: str
    toolbox: str
    seeds: tuple[int, ...]
    mean: Mapping[str, float | None]
    deviation: Mapping[str, float | None]
    difference: Mapping[str, float | None]
    error: Mapping[str, float | None]
    gmacs: float
    parameters: int
    unfinished: bool = False


def summarize(results: Iterable[RunResult], baseline: str, kind: str = "bbox") -> list[Summary]:
    """Compute mean, standard deviation and paired differences from a baseline, per toolbox, head and variant.

    Differences are taken seed by seed, because runs of one seed see the same images in the same order.

    Args:
        results: contents of the result files of one study.
        baseline: name of the variant to compare with.
        kind: ``"bbox"`` or ``"segm"``; results without it are skipped.
    """
    groups: dict[tuple[str, str, str], dict[int, RunResult]] = {}
    for result in results:
        if kind in result["scores"]:
            cell = result["cell"]
            key = (cell["toolbox"], cell["head"], cell["variant"]["name"])
            groups.setdefault(key, {})[cell["seed"]] = result
    return [_summary(key, runs, groups.get((key[0], key[1], baseline), {}), kind) for key, runs in groups.items()]


def _summary(
    key: tuple[str, str, str], runs: Mapping[int, RunResult], base: Mapping[int, RunResult], kind: str
) -> Summary:
    toolbox, head, variant = key
    seeds = sorted(runs)
    mean, deviation, difference, error = ({} for _ in range(4))
    for metric in STUDY_METRICS:
        values = [_percent(runs[seed], kind, metric) for seed in seeds]
        pairs = [(_percent(runs[s], kind, metric), _percent(base[s], kind, metric)) for s in seeds if s in base]
        gains = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
        mean[metric], deviation[metric] = _mean_and_deviation([value for value in values if value is not None])
        difference[metric], spread = _mean_and_deviation(gains)
        error[metric] = None if spread is None else spread / math.sqrt(len(gains))
    cost = runs[seeds[0]]["cost"]
    return Summary(
        *(variant, head, toolbox, tuple(seeds), mean, deviation, difference, error),
        gmacs=cost["macs"] / 1e9,
        parameters=cost["parameters"],
        unfinished=_is_unfinished(runs, base),
    )


def _is_unfinished(runs: Mapping[int, RunResult], base: Mapping[int, RunResult]) -> bool:
    """Whether box AP, averaged over the seeds, still rises, or is far below the baseline's."""
    last, before = (_mean_at(runs, place) for place in (-1, -2))
    of_base = _mean_at(base, -1)
    if last is None:
        return False
    rising = before is not None and last - before > STILL_RISING * last
    return rising or (of_base is not None and last < HARDLY_BEGUN * of_base)


def _mean_at(runs: Mapping[int, RunResult], place: int) -> float | None:
    """Mean box AP of the seeds at an evaluation; ``None`` if a training has no such evaluation."""
    curves = [run.get("curve", ()) for run in runs.values()]
    if not curves or any(len(curve) < -place for curve in curves):
        return None
    return statistics.fmean(curve[place]["AP"] for curve in curves)


def _percent(result: RunResult, kind: str, metric: str) -> float | None:
    """AP in percent; `None` if there is no object of that size, for which pycocotools writes -1."""
    value = result["scores"][kind][metric]
    return None if value < 0 else 100 * value


def _mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class ToolboxGap:
    """A variant's difference from the baseline in two toolboxes; AP in percent.

    Attributes:
        variant: name of the variant.
        head: name of the head.
        metric: one of ``STUDY_METRICS``.
        toolboxes: names of the two toolboxes.
        differences: mean difference over the seeds in each toolbox.
        errors: standard error of each difference.
    """

    variant: str
    head: str
    metric: str
    toolboxes: tuple[str, str]
    differences: tuple[float, float]
    errors: tuple[float, float]

    @property
    def gap(self) -> float:
        """Difference in the first toolbox minus that in the second."""
        return self.differences[0] - self.differences[1]

    @property
    def error(self) -> float:
        """Standard error of the gap; the toolboxes draw random numbers independently."""
        return math.hypot(*self.errors)

    @property
    def within_noise(self) -> bool:
        """Whether the gap is at most two standard errors."""
        return abs(self.gap) <= 2 * self.error


def toolbox_gaps(summaries: Sequence[Summary], baseline: str, metrics: Sequence[str]) -> list[ToolboxGap]:
    """Compare the toolboxes on each variant and head that two of them have with at least two seeds.

    Args:
        summaries: result of `summarize` for the baseline.
        baseline: name of the baseline, which is left out.
        metrics: some of ``STUDY_METRICS``.
    """
    found = []
    for one, other in combinations([row for row in summaries if row.variant != baseline], 2):
        if (one.variant, one.head) != (other.variant, other.head):
            continue
        for metric in metrics:
            pair = [(row.difference[metric], row.error[metric]) for row in (one, other)]
            values = [(gain, error) for gain, error in pair if gain is not None and error is not None]
            if len(values) == 2:
                gains, errors = zip(*values, strict=True)
                found.append(ToolboxGap(one.variant, one.head, metric, (one.toolbox, other.toolbox), gains, errors))
    return found


Outcome = Literal["holds", "noise", "fails", "one seed", "unfinished"]


@dataclass(frozen=True)
class Verdict:
    """Outcome of an expectation with one head in one toolbox; AP in percent.

    Attributes:
        expectation: the expectation.
        head: name of the head.
        toolbox: name of the toolbox.
        other: best of the variants that it compares with.
        difference: mean difference over the seeds that both have.
        error: standard error of the difference; ``None`` with one seed.
        seeds: number of seeds that both have.
        outcome: ``"holds"`` if the difference is at least the expected one and exceeds zero by two errors; an
            expectation below zero instead has to hold with two errors subtracted. ``"fails"`` if the difference stays
            below the expected one even with two errors added. ``"noise"`` in between. ``"one seed"`` without an error.
            ``"unfinished"`` if one of the two was trained too briefly to be ranked.
    """

    expectation: Expectation
    head: str
    toolbox: str
    other: str
    difference: float
    error: float | None
    seeds: int
    outcome: Outcome


def judge(results: Sequence[RunResult], expectations: Iterable[Expectation], kind: str = "bbox") -> list[Verdict]:
    """Judge expectations, for each toolbox and head that has results of both sides."""
    places = dict.fromkeys((result["cell"]["toolbox"], result["cell"]["head"]) for result in results)
    verdicts = []
    for expectation in expectations:
        for toolbox, head in places:
            own = [r for r in results if (r["cell"]["toolbox"], r["cell"]["head"]) == (toolbox, head)]
            verdict = _verdict(expectation, own, toolbox, head, kind)
            if verdict is not None:
                verdicts.append(verdict)
    return verdicts


def _verdict(
    expectation: Expectation, results: Sequence[RunResult], toolbox: str, head: str, kind: str
) -> Verdict | None:
    metric = expectation.metric
    by_name = {summary.variant: summary for summary in summarize(results, expectation.variant, kind)}
    found = {name: by_name[name].mean[metric] for name in expectation.others if name in by_name}
    others = {name: mean for name, mean in found.items() if mean is not None}
    if expectation.variant not in by_name or len(others) < len(expectation.others):
        return None
    best = max(others, key=lambda name: others[name])
    gap, error = by_name[best].difference[metric], by_name[best].error[metric]
    if gap is None:
        return None
    unfinished = by_name[best].unfinished or by_name[expectation.variant].unfinished
    outcome = "unfinished" if unfinished else _outcome(-gap, error, expectation.at_least)
    seeds = len(set(by_name[best].seeds) & set(by_name[expectation.variant].seeds))
    return Verdict(expectation, head, toolbox, best, -gap, error, seeds, outcome)


def _outcome(difference: float, error: float | None, wanted: float) -> Outcome:
    if error is None:
        return "one seed"
    if difference >= wanted and difference - 2 * error >= min(wanted, 0):
        return "holds"
    return "noise" if difference + 2 * error >= wanted else "fails"
