"""BiFPN: effdet's layout -> ours.

Ours, with ``c`` the repeat, ``n`` the node and ``m`` the number of the input map that a 1x1 convolution is for::

    extra_levels.lateral_conv.{conv,norm}.*
    cells.<c>.nodes.<n>.edge_weights
    cells.<c>.nodes.<n>.lateral_convs.<m>.{conv,norm}.*
    cells.<c>.nodes.<n>.output_conv.depthwise.weight
    cells.<c>.nodes.<n>.output_conv.{conv,norm}.*
"""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap

_THEIRS = "cell.<c>.fnode.<n>"
_OURS = "cells.<c>.nodes.<n>"


def effdet(num_inputs: int, separable: bool = True) -> KeyMap:
    """effdet's ``BiFpn`` (0.4.1) of any of its weight methods.

    Args:
        num_inputs: number of the backbone's maps; the first extra level is numbered by it.
        separable: their ``separable_conv``.
    """
    rules = [(f"{_THEIRS}.combine.edge_weights", f"{_OURS}.edge_weights")]
    for theirs, ours in (
        (f"resample.{num_inputs}.conv", "extra_levels.lateral_conv"),
        (f"{_THEIRS}.combine.resample.<m>.conv", f"{_OURS}.lateral_convs.<m>"),
    ):
        rules += [(f"{theirs}.conv.<*>", f"{ours}.conv.<*>"), (f"{theirs}.bn.<*>", f"{ours}.norm.<*>")]
    names = {"conv_dw": "depthwise", "conv_pw": "conv"} if separable else {"conv": "conv"}
    for theirs, ours in {**names, "bn": "norm"}.items():
        rules += [(f"{_THEIRS}.after_combine.conv.{theirs}.<*>", f"{_OURS}.output_conv.{ours}.<*>")]
    return KeyMap("effdet BiFpn", rules)


class BiFPNLayouts:
    """The table to try for the keys of a BiFPN on ``num_inputs`` maps."""

    def __init__(self, num_inputs: int, separable: bool = True) -> None:
        self.num_inputs = num_inputs
        self.separable = separable

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """effdet's table, whatever the ``keys``."""
        return [effdet(self.num_inputs, self.separable)]
