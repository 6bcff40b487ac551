"""DyHead: mmdet's layout -> ours.

Ours, with ``b`` the number of the block::

    blocks.<b>.{coarser,same,finer}_conv.weight, .bias (without a norm), .norm.*
    blocks.<b>.offset_conv.*   blocks.<b>.scale_attention.*   blocks.<b>.task_attention.{conv1,conv2}.*
"""

from ..key_map import KeyMap

_CONVS = {"high": "coarser_conv", "mid": "same_conv", "low": "finer_conv"}


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``DyHead``."""
    block, ours = "dyhead_blocks.<b>", "blocks.<b>"
    rules = []
    for theirs, name in _CONVS.items():
        rules += [(f"{block}.spatial_conv_{theirs}.{part}.<*>", f"{ours}.{name}.{own}<*>") for part, own in _PARTS]
    rules += [
        (f"{block}.spatial_conv_offset.<*>", f"{ours}.offset_conv.<*>"),
        (f"{block}.scale_attn_module.1.<*>", f"{ours}.scale_attention.<*>"),
        (f"{block}.task_attn_module.conv1.conv.<*>", f"{ours}.task_attention.conv1.<*>"),
        (f"{block}.task_attn_module.conv2.conv.<*>", f"{ours}.task_attention.conv2.<*>"),
    ]
    return KeyMap("mmdet DyHead", rules)


_PARTS = (("norm", "norm."), ("conv", ""))
