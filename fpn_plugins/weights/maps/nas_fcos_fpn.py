"""NAS-FCOS's FPN: mmdet's layout -> ours.

Ours, with ``n`` the number of the node of the graph::

    lateral_convs.<i>.{conv,norm}.*      cell.nodes.<n>.input_convs.<j>.{conv,norm}.*
    extra_levels.convs.<k>.conv.*        cell.nodes.<n>.{output_conv,output_norm}.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules

# mmdet names a cell by the numbers of its maps
_CELLS = ("c22_1", "c22_2", "c32", "c02", "c42", "c36", "c61")


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``NASFCOS_FPN``."""
    places = [("adapt_convs.<i>", "lateral_convs.<i>"), ("extra_downsamples.<k>", "extra_levels.convs.<k>")]
    output = []
    for number, cell in enumerate(_CELLS):
        node = f"cell.nodes.{number}"
        places += [(f"fpn.{cell}.input{j + 1}_conv", f"{node}.input_convs.{j}") for j in (0, 1)]
        output += [(f"fpn.{cell}.out_conv.conv.<*>", f"{node}.output_conv.<*>")]
        output += [(f"fpn.{cell}.out_conv.bn.<*>", f"{node}.output_norm.<*>")]
    return KeyMap("mmdet NASFCOS_FPN", [*conv_modules("", places).rules, *output])
