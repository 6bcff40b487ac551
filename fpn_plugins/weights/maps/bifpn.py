"""BiFPN: effdet's layout -> ours.

Ours, with ``c`` the repeat, ``n`` the node and ``m`` the number of the input map that a 1x1 convolution reads::

    extra_levels.lateral_conv.{conv,norm}.*
    cells.<c>.nodes.<n>.edge_weights
    cells.<c>.nodes.<n>.lateral_convs.<m>.{conv,norm}.*
    cells.<c>.nodes.<n>.output_conv.depthwise.weight
    cells.<c>.nodes.<n>.output_conv.{conv,norm}.*
"""

from ..key_map import KeyMap

_THEIRS = "cell.<c>.fnode.<n>"
_OURS = "cells.<c>.nodes.<n>"


def effdet(num_inputs: int, separable: bool = True) -> KeyMap:
    """Build the table of effdet's ``BiFpn`` (0.4.1) with any of its weight methods.

    ``num_inputs`` maps of the backbone come before the first extra level; ``separable`` is effdet's ``separable_conv``.
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
