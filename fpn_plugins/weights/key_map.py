"""Tables that rename the keys of other code bases' state dicts.

A `KeyMap` is a list of rules ``theirs -> ours``. Patterns are literal except for angle brackets::

    <i>      one integer, the same on both sides         lateral_convs.<i>.conv.weight
    <i+2>    that integer plus 2 on this side            fpn_lateral<i+2>.weight
    <*>      the rest of the key, dots included          layer1.<*>

Rules without brackets are tried first, then the others in order; the first match wins. ``None`` on our side drops the
key intentionally. A key that matches no rule is never lost silently: `KeyMap.apply` lists it in its report, and
`recognize` refuses a dict that fits a layout only in part. If a layout also stores values in another order, the rule
has a `Transform`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

_TOKEN = re.compile(r"<(\*|[a-z](?:[+-]\d+)?)>")
_OLD_TOKEN = re.compile(r"\{(\*|[a-z](?:[+-]\d+)?)\}")


@dataclass(frozen=True)
class Transform:
    """Lossless change of a tensor's values between two layouts, e.g., another order of channels.

    Attributes:
        name: name in reports.
        to_ours: their tensor -> ours.
        to_theirs: our tensor -> theirs.
    """

    name: str
    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]

    def inverse(self) -> Transform:
        """Return the transform in the other direction."""
        return Transform(f"inverse of {self.name}", self.to_theirs, self.to_ours)


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        theirs: pattern of the foreign layout.
        ours: pattern of our layout; ``None`` drops the key intentionally.
        transform: change of the value; ``None`` keeps it.

    Raises:
        ValueError: a pattern with braces, the former spelling of placeholders.
    """

    theirs: str
    ours: str | None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        _check_pattern(self.theirs)
        _check_pattern(self.ours or "")

    def inverse(self) -> Rule:
        """Return the rule ours -> theirs; ``ValueError`` if the rule drops the key."""
        if self.ours is None:
            raise ValueError(f"the rule for {self.theirs!r} drops the key, so it has no inverse")
        return Rule(self.ours, self.theirs, self.transform and self.transform.inverse())


@dataclass
class Report:
    """Outcome for every key.

    Attributes:
        layout: name of the table.
        matched: ``their key -> our key``.
        dropped: keys that the table drops intentionally.
        unexpected: keys that match no rule, or whose name in our layout does not exist in the module.
        missing: keys of ours that got no value (only if the module's keys are known).
        kept: keys of ours that the layout does not have at all; the module keeps its own values.
    """

    layout: str
    matched: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every key was matched or dropped, and no key of the module is missing."""
        return bool(self.matched) and not self.unexpected and not self.missing

    def __str__(self) -> str:
        parts = [f"{self.layout} layout: {len(self.matched)} keys matched"]
        for name in ("dropped", "unexpected", "missing", "kept"):
            if keys := getattr(self, name):
                shown = ", ".join(keys[:8]) + (f", ... ({len(keys) - 8} more)" if len(keys) > 8 else "")
                parts.append(f"{len(keys)} {name}: {shown}")
        return "; ".join(parts)


def _check_pattern(pattern: str) -> None:
    if _OLD_TOKEN.search(pattern):
        new = _OLD_TOKEN.sub(r"<\1>", pattern)
        raise ValueError(f"pattern={pattern!r}: placeholders need angle brackets; write {new!r}")


def _compile(pattern: str) -> tuple[re.Pattern[str], list[tuple[str, int]]]:
    """Compile a pattern, and return the variable and the offset of each group."""
    pieces = _TOKEN.split(pattern)
    literals, tokens = pieces[::2], pieces[1::2]
    groups = ["(.+)" if token == "*" else "([0-9]+)" for token in tokens]
    regex = "".join(re.escape(text) + group for text, group in zip(literals, [*groups, ""], strict=True))
    return re.compile(regex), [(token[0], int(token[1:] or 0)) for token in tokens]


def _fill(pattern: str, values: Mapping[str, str | int]) -> str:
    def one(token: re.Match[str]) -> str:
        value = values[token[1][0]]
        return value if isinstance(value, str) else str(value + int(token[1][1:] or 0))

    return _TOKEN.sub(one, pattern)


class KeyMap:
    """Table of rules between a foreign layout and ours.

    Args:
        layout: name of the foreign layout, for reports.
        rules: `Rule` objects or ``(theirs, ours)`` pairs.
        lacks: patterns of our keys that the layout does not have (a classifier has no norms of a detector's maps); they
            do not count as missing, and the module keeps its own values.
    """

    def __init__(self, layout: str, rules: Iterable[Rule | tuple[str, str | None]], lacks: Iterable[str] = ()) -> None:
        self.layout = layout
        self.lacks = tuple(lacks)
        for pattern in self.lacks:
            _check_pattern(pattern)
        self.rules = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
        self._literal = {rule.theirs: rule for rule in reversed(self.rules) if not _TOKEN.search(rule.theirs)}

    @cached_property
    def _patterns(self) -> list[tuple[Rule, re.Pattern[str], list[tuple[str, int]]]]:
        return [(rule, *_compile(rule.theirs)) for rule in self.rules if _TOKEN.search(rule.theirs)]

    def dropping(self, patterns: Iterable[str]) -> KeyMap:
        """Return a table that drops foreign keys that match ``patterns`` and treats the others as this table does."""
        return KeyMap(self.layout, [*(Rule(pattern, None) for pattern in patterns), *self.rules], self.lacks)

    def __repr__(self) -> str:
        return f"KeyMap({self.layout!r}, {len(self.rules)} rules)"

    def find(self, key: str) -> tuple[Rule | None, str | None]:
        """Return the rule that matches a foreign key, and our name; ``(None, None)`` if there is none."""
        if key in self._literal:
            return self._literal[key], self._literal[key].ours
        for rule, regex, variables in self._patterns:
            match = regex.fullmatch(key)
            if match is None:
                continue
            values: dict[str, str | int] = {
                name: text if name == "*" else int(text) - offset
                for (name, offset), text in zip(variables, match.groups(), strict=True)
            }
            if any(isinstance(value, int) and value < 0 for value in values.values()):
                continue  # an index before the first, e.g. `fpn_convs.3` for a rule that starts at 4
            return rule, None if rule.ours is None else _fill(rule.ours, values)
        return None, None

    def apply(
        self,
        state_dict: Mapping[str, Tensor],
        wanted: Iterable[str] | None = None,
        left_out: Collection[str] = (),
    ) -> tuple[dict[str, Tensor], Report]:
        """Return a state dict with renamed keys and transformed values, without unexpected keys, and a report.

        Args:
            state_dict: foreign keys and tensors.
            wanted: the module's own keys; if given, the report lists missing keys, and names that the module does not
                have count as unexpected.
            left_out: names of ours whose values are dropped.

        Raises:
            ValueError: two foreign keys become the same key of ours.
        """
        report = Report(self.layout)
        renamed: dict[str, Tensor] = {}
        ours = None if wanted is None else set(wanted)
        for key, value in state_dict.items():
            rule, name = self.find(key)
            if rule is not None and (name is None or name in left_out):
                report.dropped.append(key)
            elif rule is None or name is None or (ours is not None and name not in ours):
                report.unexpected.append(key)
            elif name in renamed:
                raise ValueError(f"{self.layout} layout: two keys become {name!r}, the second is {key!r}")
            else:
                renamed[name] = value if rule.transform is None else rule.transform.to_ours(value)
                report.matched[key] = name
        if ours is not None:
            # Detectron2's and old PyTorch files lack BatchNorm's step counter, which PyTorch fills in itself
            absent = sorted(key for key in ours - set(renamed) if not key.endswith("num_batches_tracked"))
            report.kept = [key for key in absent if any(_compile(pattern)[0].fullmatch(key) for pattern in self.lacks)]
            report.missing = [key for key in absent if key not in report.kept]
        return renamed, report

    def inverse(self) -> KeyMap:
        """Return the table ours -> theirs; keys that the layout lacks are dropped; the first rule for a name wins."""
        rules = [rule.inverse() for rule in self.rules if rule.ours is not None]
        return KeyMap(f"to {self.layout}", [*rules, *(Rule(pattern, None) for pattern in self.lacks)])
