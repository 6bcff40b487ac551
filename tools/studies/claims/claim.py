"""A claim, and the numbers to compare with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

# rows that the claim does not cover
COMPARISON = "counted, for comparison"


class Row(NamedTuple):
    """A count, a measurement or a published number to compare with a claim.

    Attributes:
        what: the comparison.
        how: ``"counted"``, ``"measured"``, or the publisher.
        value: the number that the claim states.
        text: the number with its unit and its components.
    """

    what: str
    how: str
    value: float
    text: str


@dataclass(frozen=True)
class Claim:
    """A common statement with its range, and the numbers to compare with it.

    Attributes:
        title: headline.
        statement: the statement as it is commonly made.
        low: lower end of the claimed range, in the unit of the rows.
        high: upper end.
        rows: numbers to compare.
        why: explanation of the differences, without numbers of its own.
    """

    title: str
    statement: str
    low: float
    high: float
    rows: tuple[Row, ...]
    why: str

    def holds(self, row: Row) -> str:
        """Verdict on a row, whose value is rounded to two digits as in the claim."""
        if row.how == COMPARISON:
            return "-"
        if round(row.value, 2) < self.low:
            return "no, less"
        return "no, more" if round(row.value, 2) > self.high else "**yes**"
