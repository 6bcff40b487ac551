"""FPG: mmdet's layout -> ours.

Ours, with ``s`` the number of the path, ``i`` that of the level from the highest resolution::

    lateral_convs.<i>.conv.*   extra_levels.<k>.conv.*   output_convs.<i>.{conv,norm}.*
    paths.<s>.<i>.transitions.<name>.{conv,norm}.*       name: same_up, same_down, across_{lateral,down,up,skip}
"""

from ..key_map import KeyMap
from .mmcv import conv_modules

_NAMES = ("same_up", "same_down", "across_lateral", "across_down", "across_up", "across_skip")
_UPSAMPLED = ("same_down", "across_down")  # mmdet's UpInterpolationConv holds its ConvModule as `conv`


def mmdet(unused: tuple[str, ...] = ()) -> KeyMap:
    """Build the table of mmdet's ``FPG``; ``unused`` are patterns of transitions that mmdet builds and does not run."""
    rules = [(f"{name}.<i>.<*>", f"{ours}.<i>.conv.<*>") for name, ours in _PLAIN.items()]
    places = [("output_transition.<i>.conv_out", "output_convs.<i>")]
    for name in _NAMES:
        theirs, ours = f"fpn_transitions.<s>.<i>.{name}", f"paths.<s>.<i>.transitions.{name}"
        places += [(f"{theirs}.conv", ours)] if name in _UPSAMPLED else []
        places += [(theirs, ours)]
    table = KeyMap("mmdet FPG", [*rules, *conv_modules("", places).rules])
    return table.dropping(unused) if unused else table


_PLAIN = {"lateral_convs": "lateral_convs", "extra_downsamples": "extra_levels"}
