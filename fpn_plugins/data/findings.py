"""Collect the faults that a check of data finds, with examples, the consequence and the remedy of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = 5
CHECK_DATA = "FPN_PLUGINS_CHECK_DATA"
GO_ON = f"To go on anyway, set {CHECK_DATA}=warn for training and evaluation, which then only print this."


@dataclass(frozen=True)
class Rule:
    """Kind of fault.

    Attributes:
        fault: description of what is wrong, to follow a number.
        remedy: what to change.
        otherwise: what happens if training or evaluation starts nevertheless.
        error: whether the fault stops training or makes its results wrong; others are warnings.
        toolbox: the toolbox that it concerns (``"mmdet"``, ``"detectron2"``); for the other one it is a warning.
    """

    fault: str
    remedy: str
    otherwise: str = ""
    error: bool = True
    toolbox: str | None = None


@dataclass(frozen=True)
class Finding:
    """Fault in a file, with up to five examples.

    Attributes:
        file: annotation file.
        rule: kind of fault.
        count: how often it was found.
        examples: ids with details.
        error: whether training must not start.
    """

    file: Path
    rule: Rule
    count: int
    examples: tuple[str, ...]
    error: bool

    def __str__(self) -> str:
        """Format as one line: number, fault, examples, remedy and consequence."""
        more = "; ..." if self.count > len(self.examples) else ""
        otherwise = f" (otherwise {self.rule.otherwise})" if self.rule.otherwise else ""
        return f"{self.count} x {self.rule.fault}: {'; '.join(self.examples)}{more} -> {self.rule.remedy}{otherwise}"


@dataclass
class Findings:
    """Faults of one annotation file.

    Args:
        file: annotation file.
        toolbox: the only toolbox that will read it; ``None`` holds it to the rules of both.
    """

    file: Path
    toolbox: str | None = None
    _examples: dict[Rule, list[str]] = field(default_factory=dict)
    _counts: Counter[Rule] = field(default_factory=Counter)

    def add(self, rule: Rule, example: str | None) -> None:
        """Count an example of a fault; ``None`` is no fault."""
        if example is None:
            return
        self._counts[rule] += 1
        if self._counts[rule] <= EXAMPLES:
            self._examples.setdefault(rule, []).append(example)

    def add_duplicates(self, rule: Rule, values: Iterable[Any]) -> None:
        """Count each value that occurs more than once."""
        for value, count in Counter(map(repr, values)).items():
            if count > 1:
                self.add(rule, f"{value} ({count} times)")

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the faults in the order in which they were first found."""
        for rule, examples in self._examples.items():
            error = rule.error and (rule.toolbox is None or self.toolbox in (None, rule.toolbox))
            yield Finding(self.file, rule, self._counts[rule], tuple(examples), error)

    @property
    def have_errors(self) -> bool:
        """Whether there is an error among the faults."""
        return any(finding.error for finding in self)


def describe(findings: Iterable[Finding], title: str = "cannot be trained on; correct it:") -> str:
    """List findings below a heading per annotation file; empty without findings."""
    by_file: dict[Path, list[str]] = {}
    for finding in findings:
        by_file.setdefault(finding.file, []).append(f"  {finding}")
    return "\n".join(f"ann_file={str(file)!r} {title}\n" + "\n".join(lines) for file, lines in by_file.items())


def short(names: Iterable[str], limit: int = 6) -> str:
    """Format names in parentheses, the first ``limit`` of them."""
    listed = list(names)
    return "(" + ", ".join(listed[:limit]) + (f", ... {len(listed)} in all)" if len(listed) > limit else ")")
