"""MultiScaleProjector: the layout of LW-DETR and RF-DETR (``backbone.0.projector`` of their detectors) -> ours.

Ours, with ``i`` the position of the level from the highest resolution, ``j`` that of the input map::

    resamples.<i>.<j>.<k>.*    layers of its sequence: deconvolutions and norms, numbered as in their layout, or
    resamples.<i>.<j>.0.{conv,norm}.*                        a convolution that halves size or channels
    blocks.<i>.{first_conv,final_conv}.{conv,norm}.*
    blocks.<i>.blocks.<n>.{conv1,conv2}.{conv,norm}.*
    norms.<i>.*
    extra_levels.convs.<k>.conv.*                            not in their layout
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def lw_detr() -> KeyMap:
    """Build the table of LW-DETR's and RF-DETR's ``MultiScaleProjector``; norms of convolutions are ``bn`` in both."""
    places = [
        ("stages_sampling.<i>.<j>.0", "resamples.<i>.<j>.0"),
        ("stages.<i>.0.cv1", "blocks.<i>.first_conv"),
        ("stages.<i>.0.cv2", "blocks.<i>.final_conv"),
        ("stages.<i>.0.m.<n>.cv1", "blocks.<i>.blocks.<n>.conv1"),
        ("stages.<i>.0.m.<n>.cv2", "blocks.<i>.blocks.<n>.conv2"),
    ]
    others = [("stages_sampling.<*>", "resamples.<*>"), ("stages.<i>.1.<*>", "norms.<i>.<*>")]
    return KeyMap("LW-DETR MultiScaleProjector", [*conv_modules("", places).rules, *others])
