"""Map each toolbox's names of backbone, neck and heads to common names.

::

    bottom_up.*   neck.*                                      each in this package's names
    rpn_head.*  roi_head.*  bbox_head.*  semantic_head.*      as in mmdet, see `heads`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..weights.key_map import KeyMap, Rule
from ..weights.maps import (
    bfp,
    channel_mapper,
    csp_pafpn,
    ct_resnet_neck,
    dilated_encoder,
    dyhead,
    foundation_vit,
    fpg,
    fpn,
    hrfpn,
    mvit,
    nas_fcos_fpn,
    nas_fpn,
    resnet,
    rfp,
    simple_pyramid,
    ssd_neck,
    ssh,
    swin,
    yolov3_neck,
)
from . import heads

MMDET, DETECTRON2 = "mmdet", "detectron2"
# top-level parts that only one of the toolboxes has
MARKS = {
    MMDET: ("rpn_head.", "roi_head.", "bbox_head.", "semantic_head.", "neck."),
    DETECTRON2: ("proposal_generator.", "roi_heads.", "head.", "sem_seg_head.", "backbone.bottom_up.", "backbone.net."),
}
TOOLBOXES = tuple(MARKS)
SAME = KeyMap("this package", [Rule("<*>", "<*>")])


def toolbox_of_keys(keys: Iterable[str]) -> str:
    """Find the toolbox of a detector by the keys of its state dict.

    Raises:
        ValueError: parts of neither toolbox, or of both.
    """
    keys = list(keys)
    found = [name for name, marks in MARKS.items() if any(key.startswith(marks) for key in keys)]
    if len(found) != 1:
        top = sorted({key.split(".")[0] for key in keys})
        raise ValueError(
            f"not the state dict of one toolbox's detector: {'marks of both' if found else 'no marks of either'}; its "
            f"parts are {top[:12]}, expected a detector of mmdet {list(MARKS[MMDET])} or of Detectron2 "
            f"{list(MARKS[DETECTRON2])}"
        )
    return found[0]


def containers(toolbox: str, keys: Iterable[str]) -> KeyMap:
    """Build the table from a toolbox's names of backbone and neck to ``bottom_up.*`` and ``neck.*``."""
    if toolbox == DETECTRON2:
        places = [("backbone.bottom_up", "bottom_up"), ("backbone.net", "bottom_up"), ("backbone.neck", "neck")]
        places += [("backbone", "neck")]  # Detectron2's FPN keeps its convolutions next to `bottom_up`
    elif any(key.startswith("backbone.neck.") for key in keys):
        places = [("backbone.backbone", "bottom_up"), ("backbone.neck", "neck")]
    else:
        places = [("backbone", "bottom_up"), ("neck", "neck")]
    return KeyMap(toolbox, [(f"{theirs}.<*>", f"{ours}.<*>") for theirs, ours in places])


def head_table(toolbox: str, keys: Iterable[str], num_anchors: int, num_ratios: int) -> KeyMap:
    """Build the table of a toolbox's heads; see `heads`."""
    if toolbox == MMDET:
        return heads.mmdet()
    normed = "head.cls_subnet.1.weight" in set(keys)  # without norms, layer 1 is an activation
    return heads.detectron2(num_anchors, num_ratios, normed)


def bottom_up_tables(keys: Iterable[str]) -> list[KeyMap]:
    """List the tables of backbones in the order to try them; the last keeps all names."""
    timm = KeyMap("timm network of this package", [("model.<*>", "<*>")])
    tables = [resnet.detectron2(), resnet.mmdet_with_group_norm(), mvit.detectron2()]
    if any(key.startswith(("rope_win.", "rope_glb.")) for key in keys):  # tables that only the forks' detectors store
        return [foundation_vit.eva(), foundation_vit.perception_encoder()]
    if any(key.endswith("relative_position_bias_table") for key in keys):
        tables = [swin.mmdet(), swin.detectron2()]
    return [*tables, timm, SAME]


def neck_tables(keys: Iterable[str]) -> list[KeyMap]:
    """List the tables of necks in the order to try them; the last keeps all names."""
    keys = list(keys)
    num_levels = len(_numbers(keys, r"lateral_convs\.(\d+)\."))
    tables = [fpn.mmdet(num_levels), fpn.detectron2(min(_numbers(keys, r"fpn_lateral(\d+)\."), default=2))]
    if stages := sorted(_numbers(keys, r"simfp_(\d+)\.")):
        # Detectron2 numbers the layers of a level: the last two are the 1x1 and the 3x3 convolution
        lengths = [max(_numbers(keys, rf"simfp_{stage}\.(\d+)\.")) - 1 for stage in stages]
        tables.append(simple_pyramid.detectron2(stages[0], lengths))
    tables += [simple_pyramid.mmdet(num_levels), nas_fpn.mmdet(), csp_pafpn.mmdet(), bfp.mmdet()]
    tables += [rfp.mmdet_with_fpn(num_levels), yolov3_neck.mmdet(len(_numbers(keys, r"detect(\d+)\.")))]
    tables += [part.mmdet() for part in (channel_mapper, ct_resnet_neck, dilated_encoder, dyhead, fpg, hrfpn)]
    return [*tables, *(part.mmdet() for part in (nas_fcos_fpn, ssd_neck, ssh)), SAME]


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for key in keys if (match := re.match(pattern, key))}


Tables = Callable[[Iterable[str]], Sequence[KeyMap]]
PARTS: dict[str, Tables] = {"bottom_up": bottom_up_tables, "neck": neck_tables}
