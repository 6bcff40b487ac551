"""RFP: mmdet's layout -> ours: ``fpn.*``, ``backbones.<k>.*``, ``aspp.convs.<j>.*``, ``gate.*``."""

from ..key_map import KeyMap, Rule
from . import fpn


def mmdet() -> KeyMap:
    """Redirect the keys of mmdet's ``RFP``; those of its FPN are renamed by the FPN's own table."""
    rules = [(f"{part}.<*>", f"fpn.{part}.<*>") for part in ("lateral_convs", "fpn_convs")]
    rules += [("rfp_modules.<k>.<*>", "backbones.<k>.<*>"), ("rfp_aspp.aspp.<j>.<*>", "aspp.convs.<j>.<*>")]
    return KeyMap("mmdet RFP", [*rules, ("rfp_weight.<*>", "gate.<*>")])


def mmdet_with_fpn(num_levels: int) -> KeyMap:
    """Build the table of mmdet's ``RFP`` with the final names of its FPN, whose extra levels follow ``num_levels``."""
    inner = [Rule(rule.theirs, f"fpn.{rule.ours}", rule.transform) for rule in fpn.mmdet(num_levels).rules]
    others = [rule for rule in mmdet().rules if not rule.theirs.startswith(("lateral_convs", "fpn_convs"))]
    return KeyMap("mmdet RFP", [*inner, *others])
