"""Map the names of Detectron2's heads to mmdet's, which are the common names.

Norms of all kinds are called ``norm``. The toolboxes store three things differently:

- anchors: Detectron2 counts size-major, mmdet ratio-major, wherever a cell has several sizes and several ratios;
- semantic classes of Panoptic FPN: "things" is Detectron2's first channel and mmdet's last;
- mask heads of Cascade R-CNN: one per stage in mmdet, one for all stages in Detectron2 (`match_mask_heads`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ..weights.key_map import KeyMap, Rule
from ..weights.maps import panoptic_fpn
from ..weights.maps.mmcv import MMCV_NORMS
from ..weights.transforms import THINGS_LAST, anchor_order

MAX_CONVS = 8  # per branch of RetinaNet's head
FEATURES = [f"p{level}" for level in range(2, 8)]  # names of the branches of Detectron2's Panoptic FPN
MMDET_HEADS = ("rpn_head", "roi_head", "bbox_head", "semantic_head", "panoptic_fusion_head")
NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
MASK_HEAD = "roi_head.mask_head."


def mmdet() -> KeyMap:
    """Build the table of mmdet's heads, which renames only norms: mmcv names them by their kind."""
    rules = _semantic_branches("semantic_head", panoptic_fpn.mmdet())
    for head in MMDET_HEADS:
        parts = [(norm, part) for norm in MMCV_NORMS for part in NORM_PARTS]
        rules += [Rule(f"{head}.<*>.{norm}.{part}", f"{head}.<*>.norm.{part}") for norm, part in parts]
    return KeyMap("mmdet heads", [*rules, *(Rule(f"{head}.<*>", f"{head}.<*>") for head in MMDET_HEADS)])


def detectron2(num_anchors: int, num_ratios: int, normed_retinanet: bool = False) -> KeyMap:
    """Build the table from Detectron2's heads to mmdet's.

    Args:
        num_anchors: anchors per cell of the RPN or of RetinaNet.
        num_ratios: number of aspect ratios among these anchors.
        normed_retinanet: whether the convolutions of RetinaNet's heads have norms.
    """
    rules = [*_rpn(num_anchors, num_ratios), *_box_heads(), *_mask_head()]
    rules += [Rule("sem_seg_head.predictor.<*>", "semantic_head.conv_logits.<*>", THINGS_LAST)]
    rules += _semantic_branches("sem_seg_head", panoptic_fpn.detectron2(FEATURES))
    rules += _retinanet(num_anchors, num_ratios, normed_retinanet)
    # computed from the config in both toolboxes, and stored by old versions of Detectron2
    computed = ("proposal_generator.anchor_generator.<*>", "anchor_generator.<*>", "pixel_mean", "pixel_std")
    return KeyMap("detectron2 heads", rules).dropping(computed)


def _conv(theirs: str, ours: str) -> list[Rule]:
    """Build the rules of a convolution that contains its norm."""
    return [Rule(f"{theirs}.norm.<*>", f"{ours}.norm.<*>"), Rule(f"{theirs}.<*>", f"{ours}.conv.<*>")]


def _rpn(num_anchors: int, num_ratios: int) -> list[Rule]:
    theirs = "proposal_generator.rpn_head"
    order = anchor_order(num_anchors, num_ratios)
    return [
        *_conv(f"{theirs}.conv.conv<k>", "rpn_head.rpn_conv.<k>"),
        Rule(f"{theirs}.conv.<*>", "rpn_head.rpn_conv.<*>"),
        Rule(f"{theirs}.objectness_logits.<*>", "rpn_head.rpn_cls.<*>", order),
        Rule(f"{theirs}.anchor_deltas.<*>", "rpn_head.rpn_reg.<*>", order),
    ]


def _box_heads() -> list[Rule]:
    rules = []
    for stage in ("<s>.", ""):  # several in Cascade R-CNN, one in other detectors
        head, predictor = f"roi_heads.box_head.{stage}", f"roi_heads.box_predictor.{stage}"
        ours = f"roi_head.bbox_head.{stage}"
        rules += _conv(f"{head}conv<k+1>", f"{ours}shared_convs.<k>")
        rules += [
            Rule(f"{head}fc<k+1>.<*>", f"{ours}shared_fcs.<k>.<*>"),
            Rule(f"{predictor}cls_score.<*>", f"{ours}fc_cls.<*>"),
            Rule(f"{predictor}bbox_pred.<*>", f"{ours}fc_reg.<*>"),
        ]
    return rules


def _mask_head() -> list[Rule]:
    theirs, ours = "roi_heads.mask_head", "roi_head.mask_head"
    return [
        *_conv(f"{theirs}.mask_fcn<k+1>", f"{ours}.convs.<k>"),
        Rule(f"{theirs}.deconv.<*>", f"{ours}.upsample.<*>"),
        Rule(f"{theirs}.predictor.<*>", f"{ours}.conv_logits.<*>"),
    ]


def _retinanet(num_anchors: int, num_ratios: int, normed: bool) -> list[Rule]:
    rules = []
    order = anchor_order(num_anchors, num_ratios)
    step = 3 if normed else 2  # a convolution, its norm, its activation
    for k in range(MAX_CONVS):
        for branch, name in (("cls", "cls"), ("bbox", "reg")):
            theirs, ours = f"head.{branch}_subnet", f"bbox_head.{name}_convs.{k}"
            rules += [Rule(f"{theirs}.{step * k}.<*>", f"{ours}.conv.<*>")]
            rules += [Rule(f"{theirs}.{step * k + 1}.<*>", f"{ours}.norm.<*>")] if normed else []
    predictors = {"head.cls_score.<*>": "bbox_head.retina_cls.<*>", "head.bbox_pred.<*>": "bbox_head.retina_reg.<*>"}
    return [*rules, *(Rule(theirs, ours, order) for theirs, ours in predictors.items())]


def _semantic_branches(head: str, table: KeyMap) -> list[Rule]:
    """Build the rules of Panoptic FPN's branches, directly in the head or in this package's ``semantic_merge``."""
    rules = [*table.rules, Rule("semantic_merge.<*>", "<*>")]
    return [Rule(f"{head}.{rule.theirs}", f"semantic_head.{rule.ours}") for rule in rules]


def match_mask_heads(
    values: dict[str, Tensor], origin: dict[str, str], wanted: Collection[str], mask_stage: int | None
) -> None:
    """Copy one mask head to all of Cascade R-CNN's stages, or keep one of several, as the target requires.

    Args:
        values: values by common name, changed in place.
        origin: the checkpoint's key of each value, changed in place.
        wanted: common names of the target.
        mask_stage: stage whose mask head replaces all if they differ.

    Raises:
        ValueError: the mask heads differ and there is no ``mask_stage``, or ``mask_stage`` does not exist, or it has
            no effect, because the checkpoint's mask heads are kept.
    """
    have, want = (
        sorted({int(m[1]) for n in names if (m := re.match(rf"{re.escape(MASK_HEAD)}(\d+)\.", n))})
        for names in (values, wanted)
    )
    if mask_stage is not None and (want or not have):
        raise ValueError(
            f"mask_stage={mask_stage} chooses one of several mask heads for a detector that has one; "
            + (f"the target has {len(want)}" if want else "the checkpoint has one or none")
            + "; leave it out"
        )
    if bool(have) == bool(want) or not any(name.startswith(MASK_HEAD) for name in wanted):
        return
    masks = {name: values.pop(name) for name in list(values) if name.startswith(MASK_HEAD)}
    keys = {name: origin.pop(name) for name in masks}
    if want:  # mmdet averages the heads, so equal ones give the same masks
        moves = [(MASK_HEAD, f"{MASK_HEAD}{stage}.") for stage in want]
    else:
        moves = [(f"{MASK_HEAD}{_chosen_stage(masks, have, mask_stage)}.", MASK_HEAD)]
    for old, new in moves:
        for name, value in masks.items():
            if name.startswith(old):
                place = new + name.removeprefix(old)
                values[place], origin[place] = value.clone(), keys[name]


def _chosen_stage(masks: Mapping[str, Tensor], stages: list[int], mask_stage: int | None) -> int:
    if mask_stage is not None:
        if mask_stage not in stages:
            raise ValueError(f"mask_stage={mask_stage} is not among the stages {stages} of the checkpoint")
        return mask_stage
    first = f"{MASK_HEAD}{stages[0]}."
    for name, value in masks.items():
        if not torch.equal(value, masks[re.sub(rf"^{re.escape(MASK_HEAD)}\d+\.", first, name)]):
            raise ValueError(
                f"mmdet averages the masks of {len(stages)} different mask heads, Detectron2 has one: no conversion is "
                f"exact. Pass mask_stage={stages[-1]} to use only the last stage's"
            )
    return stages[0]


def anchors_per_cell(shapes: Mapping[str, Tensor]) -> int:
    """Read the anchors per cell from the box predictor of the RPN or RetinaNet; 1 for detectors without either."""
    for name in ("anchor_deltas.bias", "head.bbox_pred.bias", "rpn_reg.bias", "retina_reg.bias"):
        for key, value in shapes.items():
            if key.endswith(name) and not key.startswith("roi_head"):
                return value.shape[0] // 4
    return 1


def count_classes(shapes: Mapping[str, Tensor]) -> int:
    """Read the number of classes from the class predictor of an R-CNN or a RetinaNet; 0 for other detectors."""
    for key, value in shapes.items():
        if re.fullmatch(r"roi_heads?\.(bbox_head|box_predictor)(\.\d)?\.(fc_cls|cls_score)\.bias", key):
            return value.shape[0] - 1  # the last one is the background
        if key in ("bbox_head.retina_cls.bias", "head.cls_score.bias"):
            return value.shape[0] // anchors_per_cell(shapes)
    return 0
