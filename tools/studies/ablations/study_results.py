"""The statistics of an ablation study's results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from study_design import METRICS, Expectation

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """Results of a variant in one toolbox with one head, over its seeds; AP in percent.

    Attributes:
        variant: its name.
        head: as in the study.
        toolbox: as in the study.
        seeds: those that have results.
        mean: of each metric; ``None`` where the data set has no object of that size.
        deviation: standard deviation over the seeds (n - 1); ``None`` with fewer than two.
        difference: mean difference to the baseline over the seeds that both have; ``None`` without any.
        error: standard error of that difference; ``None`` with fewer than two such seeds.
        gmacs: 1e9 multiply-adds of the whole detector for one image.
        parameters: of the whole detector.
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


def summarize(results: Iterable[Result], baseline: str, kind: str = "bbox") -> list[Summary]:
    """Mean, standard deviation, and paired differences to a baseline, per toolbox, head and variant.

    Runs of one seed see the same images in the same order, so that differences are taken seed by seed.

    Args:
        results: content of result files, of one study.
        baseline: name of the variant to compare with.
        kind: ``"bbox"`` or ``"segm"``; results without it are passed over.
    """
    groups: dict[tuple[str, str, str], dict[int, Result]] = {}
    for result in results:
        if kind in result["scores"]:
            cell = result["cell"]
            key = (cell["toolbox"], cell["head"], cell["variant"]["name"])
            groups.setdefault(key, {})[cell["seed"]] = result
    return [_summary(key, runs, groups.get((key[0], key[1], baseline), {}), kind) for key, runs in groups.items()]


def _summary(key: tuple[str, str, str], runs: Mapping[int, Result], base: Mapping[int, Result], kind: str) -> Summary:
    toolbox, head, variant = key
    seeds = sorted(runs)
    mean, deviation, difference, error = ({} for _ in range(4))
    for metric in METRICS:
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
    )


def _percent(result: Result, kind: str, metric: str) -> float | None:
    """pycocotools says -1 where there is no object of that size."""
    value = result["scores"][kind][metric]
    return None if value < 0 else 100 * value


def _mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Agreement:
    """A variant's difference to the baseline in two toolboxes; AP in percent.

    Attributes:
        variant: its name.
        head: as in the study.
        metric: of ``METRICS``.
        toolboxes: the two.
        differences: mean over the seeds, in each.
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
        """How much larger the difference is in the first toolbox."""
        return self.differences[0] - self.differences[1]

    @property
    def error(self) -> float:
        """Standard error of the gap: the toolboxes draw independently."""
        return math.hypot(*self.errors)

    @property
    def within_noise(self) -> bool:
        """Whether the gap is at most two standard errors."""
        return abs(self.gap) <= 2 * self.error


def agreements(summaries: Sequence[Summary], baseline: str, metrics: Sequence[str]) -> list[Agreement]:
    """Each variant and head that two toolboxes have with at least two seeds, the baseline excepted.

    Args:
        summaries: what `summarize` gives for that baseline.
        baseline: its name.
        metrics: of ``METRICS``.
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
                found.append(Agreement(one.variant, one.head, metric, (one.toolbox, other.toolbox), gains, errors))
    return found


Outcome = Literal["holds", "noise", "fails", "one seed"]


@dataclass(frozen=True)
class Verdict:
    """How an expectation fared with one head in one toolbox; AP in percent.

    Attributes:
        expectation: what was expected.
        head: as in the study.
        toolbox: as in the study.
        other: the best of the variants that were compared with.
        difference: mean over the seeds that both have.
        error: standard error of that difference; ``None`` with one seed.
        seeds: number of those seeds.
        outcome: ``"holds"`` if the difference is as large as expected and more than twice its error, or, where none
            above zero is expected, would be as large with twice its error less; ``"fails"`` if it would not be as
            large with twice its error more; ``"noise"`` in between; ``"one seed"`` where that is all there is.
    """

    expectation: Expectation
    head: str
    toolbox: str
    other: str
    difference: float
    error: float | None
    seeds: int
    outcome: Outcome


def judge(results: Sequence[Result], expectations: Iterable[Expectation], kind: str = "bbox") -> list[Verdict]:
    """Hold results against expectations, for each toolbox and head that has results of both sides."""
    places = dict.fromkeys((result["cell"]["toolbox"], result["cell"]["head"]) for result in results)
    verdicts = []
    for expectation in expectations:
        for toolbox, head in places:
            own = [r for r in results if (r["cell"]["toolbox"], r["cell"]["head"]) == (toolbox, head)]
            verdict = _verdict(expectation, own, toolbox, head, kind)
            if verdict is not None:
                verdicts.append(verdict)
    return verdicts


def _verdict(expectation: Expectation, results: Sequence[Result], toolbox: str, head: str, kind: str) -> Verdict | None:
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
    outcome = _outcome(-gap, error, expectation.at_least)
    seeds = len(set(by_name[best].seeds) & set(by_name[expectation.variant].seeds))
    return Verdict(expectation, head, toolbox, best, -gap, error, seeds, outcome)


def _outcome(difference: float, error: float | None, wanted: float) -> Outcome:
    if error is None:
        return "one seed"
    if difference >= wanted and difference - 2 * error >= min(wanted, 0):
        return "holds"
    return "noise" if difference + 2 * error >= wanted else "fails"
