"""Checks of arguments: they return good values, and refuse others with a message that names the argument."""

from __future__ import annotations

from typing import Any

import pytest

from fpn_plugins import checks


def test_good_values_are_returned() -> None:
    assert checks.positive_int("depth", 3) == 3
    assert checks.probability("rate", 0) == 0.0
    assert checks.divisor("num_heads", 3, 12, "channels") == 3
    assert checks.one_of("mode", "sum", {"sum": 1, "mean": 2}) == "sum"
    assert checks.ascending("out_indices", [0, 2], 3, "of the maps") == (0, 2)


@pytest.mark.parametrize(
    ("check", "arguments", "error", "message"),
    [
        ("positive_int", ("depth", 0), ValueError, "depth=0 must be at least 1"),
        ("positive_int", ("depth", 2.0), TypeError, "depth=2.0 must be an integer"),
        ("positive_int", ("depth", True), TypeError, "depth=True must be an integer"),
        ("probability", ("rate", 1.0), ValueError, "rate=1.0 must be at least 0 and below 1"),
        ("divisor", ("num_heads", 5, 12, "channels"), ValueError, "num_heads=5 must divide the 12 channels"),
        ("divisor", ("num_heads", 0, 12, "channels"), ValueError, "num_heads=0 must divide the 12 channels"),
        (
            "ascending",
            ("indices", (), 3, "of the maps"),
            ValueError,
            r"indices=\[\] must be ascending positions of the",
        ),
        ("ascending", ("indices", (1, 0), 3, "of the maps"), ValueError, r"indices=\[1, 0\] must be ascending"),
        ("ascending", ("indices", (1, 3), 3, "of the maps"), ValueError, r"indices=\[1, 3\] must be ascending"),
        (
            "one_of",
            ("mode", "meen", ("sum", "mean"), ", or None"),
            ValueError,
            r"mode='meen' is unknown; choose one of \['mean', 'sum'\], or None \(near: mean\)$",
        ),
        ("one_of", ("mode", None, ("sum",)), ValueError, r"mode=None is unknown; choose one of \['sum'\]$"),
    ],
)
def test_other_values_are_refused(check: str, arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(checks, check)(*arguments)
