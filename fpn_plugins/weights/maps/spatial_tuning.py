"""SpatialTuningAdapter: the layout of DEIMv2 (``backbone`` of its detectors) -> ours.

Ours, with ``k`` the position of the convolution and ``i`` that of the level, both from the highest resolution::

    detail_convs.<k>.{conv,norm}.*
    fusion_convs.<i>.{conv,norm}.*
    vit.*                            as the backbone ``vit`` names it
"""

from ..key_map import KeyMap

# DEIMv2 numbers an activation too, except in its first two steps
_DETAILS = {"stem.0": "0.conv", "stem.1": "0.norm", "conv2.0": "1.conv", "conv2.1": "1.norm"}
_DETAILS |= {f"conv{k + 1}.{place}": f"{k}.{part}" for k in (2, 3) for place, part in ((1, "conv"), (2, "norm"))}


def deimv2() -> KeyMap:
    """Redirect the parts of DEIMv2's ``DINOv3STAs``, whose small ViTs are held as ``dinov3._model``, to ours."""
    rules = [(f"sta.{theirs}.<*>", f"detail_convs.{ours}.<*>") for theirs, ours in _DETAILS.items()]
    rules += [("convs.<i>.<*>", "fusion_convs.<i>.conv.<*>"), ("norms.<i>.<*>", "fusion_convs.<i>.norm.<*>")]
    rules += [("dinov3._model.<*>", "vit.<*>"), ("dinov3.<*>", "vit.<*>")]
    return KeyMap("DEIMv2 spatial tuning adapter", rules)
