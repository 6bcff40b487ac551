"""Checks of arguments: they return good values, and refuse others with a message that names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fpn_plugins import checks


def test_good_values_are_returned() -> None:
    assert checks.positive_int("depth", 3) == 3
    assert checks.probability("rate", 0) == 0.0
    assert checks.divisor("num_heads", 3, 12, "channels") == 3
    assert checks.one_of("mode", "sum", {"sum": 1, "mean": 2}) == "sum"
    assert checks.ascending("out_indices", [0, 2], 3, "of the maps") == (0, 2)
    assert checks.ascending("out_indices", {0, 2}, 3, "of the maps") == (0, 2)
    assert checks.integer("index", np.int8(-1)) == -1
    assert checks.boolean("flag", 0) is False
    assert checks.boolean("flag", np.bool_(True)) is True
    assert checks.number("rate", np.float32(0.5), 0, 1) == 0.5
    assert checks.positive_number("eps", 1) == 1.0
    assert checks.integers("sizes", torch.Size([2, 3]), 1, 2) == (2, 3)
    assert checks.numbers("scales", (1, 0.5)) == (1.0, 0.5)
    assert checks.mapping("vit", {}, "{}") == {}
    assert checks.text("name", "vit", "vit") == "vit"
    checks.file_name("checkpoint", Path("x.pth"))
    checks.name_or_factory("norm", nn.BatchNorm2d, ["BN"], "")
    checks.name_or_factory("norm", "", ["BN"], "")


@pytest.mark.parametrize(
    ("check", "arguments", "error", "message"),
    [
        ("positive_int", ("depth", 0), ValueError, "depth=0 must be at least 1"),
        ("positive_int", ("depth", 2.0), TypeError, "depth=2.0 must be an integer"),
        ("positive_int", ("depth", True), TypeError, "depth=True must be an integer"),
        ("integer", ("index", "-2"), TypeError, "index='-2' must be an integer; leave out the quotes"),
        ("integer", ("index", np.array([1, 2])), TypeError, "must be an integer$"),
        ("integer", ("index", np.bool_(True)), TypeError, "must be an integer$"),
        ("integer", ("index", 5, 0, 4), ValueError, "index=5 must be at most 4"),
        ("boolean", ("flag", "false"), TypeError, "flag='false' must be True or False; leave out the quotes"),
        ("boolean", ("flag", 2), TypeError, "flag=2 must be True or False"),
        ("boolean", ("flag", None), TypeError, "flag=None must be True or False"),
        ("number", ("eps", "1e-5"), TypeError, "eps='1e-5' must be a number"),
        ("number", ("eps", True), TypeError, "eps=True must be a number"),
        ("number", ("eps", float("inf")), ValueError, "eps=inf must be a finite number"),
        ("positive_number", ("eps", 0.0), ValueError, "eps=0.0 must be above 0"),
        ("integers", ("depths", "12"), TypeError, "depths='12' must be a sequence of integers, written in brackets"),
        ("integers", ("depths", {1, 2}), TypeError, "must be a sequence of integers"),
        ("integers", ("depths", [1, "2"]), TypeError, r"depths=\[1, '2'\] must be a sequence of integers"),
        ("integers", ("depths", [1, 0], 1), ValueError, r"depths=\[1, 0\] must be integers of at least 1"),
        ("integers", ("depths", [1], 1, 2), ValueError, r"depths=\[1\] must have 2 entries"),
        ("numbers", ("scales", [float("nan")]), ValueError, "scales=nan must be a finite number"),
        ("mapping", ("vit", [], "{}"), TypeError, r"vit=\[\] must be a mapping, such as {}"),
        ("text", ("name", b"vit", "vit"), TypeError, "name=b'vit' must be a name, such as 'vit'"),
        ("file_name", ("checkpoint", ""), TypeError, "checkpoint='' must be the path of a file, or None"),
        ("file_name", ("checkpoint", 3), TypeError, "checkpoint=3 must be the path of a file, or None"),
        ("name_or_factory", ("norm", nn.ReLU(), ["BN"], ""), TypeError, r"norm=ReLU\(\) must be .*pass its class"),
        ("name_or_factory", ("norm", 3, ["BN"], ""), TypeError, r"norm=3 must be one of \['BN'\], a factory"),
        ("one_of", ("mode", ["sum"], ("sum",)), ValueError, r"mode=\['sum'\] is unknown"),
        ("probability", ("rate", "0.5"), TypeError, "rate='0.5' must be a number"),
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


def test_a_name_that_begins_alike_is_suggested_first():
    """Among the nearest, those with the same beginning."""
    names = ["BFP", "FPG", "FPN", "RFP", "PAFPN"]
    assert checks.near_names("FNP", names).startswith(" (near: FPN")
    assert checks.near_names("FPM", names).startswith(" (near: FPN, FPG")
    assert checks.near_names("FPN", names, 1) == " (near: FPN)" and checks.near_names("xyz", names) == ""
