"""State dicts of other code bases, renamed by table.

A `KeyMap` is a list of rules ``theirs -> ours``. Patterns are literal except for angle brackets::

    <i>      one integer, the same on both sides         lateral_convs.<i>.conv.weight
    <i+2>    that integer plus 2 on this side            fpn_lateral<i+2>.weight
    <*>      the rest of the key, dots included          layer1.<*>

Rules without brackets are tried first, then the others in order; the first that fits wins. ``None`` on our side means
*dropped on purpose*. A key that no rule fits is never lost silently: `KeyMap.apply` lists it in its report, and
`recognize` refuses a dict that fits a layout only in part.

Where a layout also stores a value in another order, the rule names a `Transform`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

_TOKEN = re.compile(r"<(\*|[a-z](?:[+-]\d+)?)>")
_OLD_TOKEN = re.compile(r"\{(\*|[a-z](?:[+-]\d+)?)\}")


@dataclass(frozen=True)
class Transform:
    """A change of a tensor's values between two layouts that loses nothing, e.g. another order of channels.

    Attributes:
        name: what it is called in reports.
        to_ours: their tensor -> ours.
        to_theirs: our tensor -> theirs.
    """

    name: str
    to_ours: Callable[[Tensor], Tensor]
    to_theirs: Callable[[Tensor], Tensor]

    def inverse(self) -> Transform:
        """The same change in the other direction."""
        return Transform(f"inverse of {self.name}", self.to_theirs, self.to_ours)


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        theirs: pattern of the foreign layout.
        ours: pattern of ours; ``None`` is dropped on purpose.
        transform: what happens to the value; ``None`` is nothing.
    """

    theirs: str
    ours: str | None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        for pattern in (self.theirs, self.ours):
            _check_pattern(pattern)

    def inverse(self) -> Rule:
        """The rule ours -> theirs; of one that drops a key there is none (``ValueError``)."""
        if self.ours is None:
            raise ValueError(f"the rule for {self.theirs!r} drops the key, so it has no inverse")
        return Rule(self.ours, self.theirs, self.transform and self.transform.inverse())


@dataclass
class Report:
    """What became of every key.

    Attributes:
        layout: name of the table that was used.
        matched: ``their key -> our key``.
        dropped: keys that the table drops on purpose.
        unexpected: keys that no rule fits, or whose name on our side the module does not have.
        missing: our keys that nothing was found for (only where the wanted keys are known).
        kept: our keys that the layout does not have at all; the module's own values stay.
    """

    layout: str
    matched: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every key found its place and every place its key."""
        return bool(self.matched) and not self.unexpected and not self.missing

    def __str__(self) -> str:
        parts = [f"{self.layout} layout: {len(self.matched)} keys matched"]
        for name in ("dropped", "unexpected", "missing", "kept"):
            keys = getattr(self, name)
            if keys:
                shown = ", ".join(keys[:8]) + (f", ... ({len(keys) - 8} more)" if len(keys) > 8 else "")
                parts.append(f"{len(keys)} {name}: {shown}")
        return "; ".join(parts)


def _check_pattern(pattern: str | None) -> None:
    if pattern is not None and _OLD_TOKEN.search(pattern):
        new = _OLD_TOKEN.sub(r"<\1>", pattern)
        raise ValueError(f"pattern {pattern!r}: placeholders are written in angle brackets; write {new!r}")


def _compile(pattern: str) -> tuple[re.Pattern[str], dict[str, tuple[str, int]]]:
    """Regular expression of a pattern, and for each of its groups the variable and the offset that it carries."""
    groups: dict[str, tuple[str, int]] = {}
    parts, position = [], 0
    for number, token in enumerate(_TOKEN.finditer(pattern)):
        parts.append(re.escape(pattern[position : token.start()]))
        name, offset = token[1][0], int(token[1][1:] or 0)
        groups[f"g{number}"] = (name, offset)
        parts.append(f"(?P<g{number}>{'.+' if name == '*' else '[0-9]+'})")
        position = token.end()
    return re.compile("".join(parts) + re.escape(pattern[position:])), groups


def _fill(pattern: str, values: Mapping[str, str | int]) -> str:
    """Write ``values`` into the brackets of ``pattern``."""

    def one(token: re.Match[str]) -> str:
        name, offset = token[1][0], int(token[1][1:] or 0)
        value = values[name]
        return value if isinstance(value, str) else str(value + offset)

    return _TOKEN.sub(one, pattern)


class KeyMap:
    """A table of rules between one foreign layout and ours.

    Args:
        layout: name of the foreign layout, for reports.
        rules: `Rule` objects or ``(theirs, ours)`` pairs; literal ones first, then the first that fits.
        lacks: patterns of our keys that the layout does not have (a classifier has no norms of a detector's maps): not
            missing, the module keeps its own.
    """

    def __init__(self, layout: str, rules: Iterable[Rule | tuple[str, str | None]], lacks: Iterable[str] = ()) -> None:
        self.layout = layout
        self.lacks = tuple(lacks)
        for pattern in self.lacks:
            _check_pattern(pattern)
        self.rules = tuple(rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
        self._literal = {rule.theirs: rule for rule in reversed(self.rules) if not _TOKEN.search(rule.theirs)}
        patterns = [rule for rule in self.rules if _TOKEN.search(rule.theirs)]
        self._patterns = [(rule, *_compile(rule.theirs)) for rule in patterns]

    def __repr__(self) -> str:
        return f"KeyMap({self.layout!r}, {len(self.rules)} rules)"

    def rename(self, key: str) -> tuple[bool, str | None]:
        """``(whether a rule fits, our name or None)`` of one foreign key."""
        rule, name = self.find(key)
        return rule is not None, name

    def find(self, key: str) -> tuple[Rule | None, str | None]:
        """The rule that fits a foreign key, and our name; ``(None, None)`` where there is none."""
        if key in self._literal:
            return self._literal[key], self._literal[key].ours
        for rule, regex, groups in self._patterns:
            match = regex.fullmatch(key)
            if match is None:
                continue
            values: dict[str, str | int] = {
                name: match[group] if name == "*" else int(match[group]) - offset
                for group, (name, offset) in groups.items()
            }
            if any(isinstance(value, int) and value < 0 for value in values.values()):
                continue  # an index before the first, as `fpn_convs.3` for a rule that starts at 4
            return rule, None if rule.ours is None else _fill(rule.ours, values)
        return None, None

    def apply(
        self, state_dict: Mapping[str, Tensor], wanted: Iterable[str] | None = None
    ) -> tuple[dict[str, Tensor], Report]:
        """Rename a state dict, and transform the values that a rule says; the input is left as it is.

        Args:
            state_dict: foreign keys and tensors.
            wanted: our module's own keys; with it the report also says what is missing, and a name that the module
                does not have counts as unexpected.

        Returns:
            The renamed dict (without unexpected keys) and the `Report`.

        Raises:
            ValueError: two foreign keys become the same one of ours.
        """
        report = Report(self.layout)
        renamed: dict[str, Tensor] = {}
        ours = None if wanted is None else set(wanted)
        for key, value in state_dict.items():
            rule, name = self.find(key)
            if rule is not None and name is None:
                report.dropped.append(key)
            elif rule is None or name is None or (ours is not None and name not in ours):
                report.unexpected.append(key)
            elif name in renamed:
                raise ValueError(f"{self.layout} layout: two keys become {name!r}, the second is {key!r}")
            else:
                renamed[name] = value if rule.transform is None else rule.transform.to_ours(value)
                report.matched[key] = name
        if ours is not None:
            absent = sorted(key for key in ours - set(renamed) if not _optional(key))
            report.kept = [key for key in absent if any(_compile(pattern)[0].fullmatch(key) for pattern in self.lacks)]
            report.missing = [key for key in absent if key not in report.kept]
        return renamed, report

    def inverse(self) -> KeyMap:
        """The table ours -> theirs; what the layout lacks is dropped, and the first rule for a name wins."""
        rules = [rule.inverse() for rule in self.rules if rule.ours is not None]
        return KeyMap(f"to {self.layout}", [*rules, *(Rule(pattern, None) for pattern in self.lacks)])


def _optional(key: str) -> bool:
    """BatchNorm's step counter: absent from Detectron2's and from old torch files, and torch fills it in by itself."""
    return key.endswith("num_batches_tracked")
