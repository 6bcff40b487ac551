"""RFP: mmdet's layout -> ours: ``fpn.*``, ``backbones.<k>.*``, ``aspp.convs.<j>.*``, ``gate.*``."""

from ..key_map import KeyMap


def mmdet() -> KeyMap:
    """Redirect the keys of mmdet's ``RFP``; those of its FPN are renamed by the FPN's own table."""
    rules = [(f"{part}.<*>", f"fpn.{part}.<*>") for part in ("lateral_convs", "fpn_convs")]
    rules += [("rfp_modules.<k>.<*>", "backbones.<k>.<*>"), ("rfp_aspp.aspp.<j>.<*>", "aspp.convs.<j>.<*>")]
    return KeyMap("mmdet RFP", [*rules, ("rfp_weight.<*>", "gate.<*>")])
