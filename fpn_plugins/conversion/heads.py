"""Detection heads: detectron2's names -> mmdet's, which are the common ones between toolboxes here.

Norms are called ``norm``, whatever their kind. Three things are stored in another order:

- anchors: detectron2 counts size-major, mmdet ratio-major, wherever a cell has several sizes and several ratios;
- the semantic classes of Panoptic FPN: "things" is detectron2's first channel and mmdet's last;
- Cascade R-CNN's boxes have a head per stage on both sides, its masks one head in detectron2 and one per stage in mmdet
  (see `fpn_plugins.conversion.detectors`).
"""

from __future__ import annotations

from ..weights.key_map import KeyMap, Rule
from ..weights.maps import panoptic_fpn
from ..weights.maps.mmcv import MMCV_NORMS
from ..weights.transforms import THINGS_LAST, anchor_order

MAX_CONVS = 8  # of one branch of RetinaNet's head
FEATURES = range(2, 8)  # levels that Panoptic FPN may merge in detectron2, which names its branches by them


def mmdet() -> KeyMap:
    """mmdet's heads as they are, but for the norms, which mmcv names by their kind."""
    rules = [
        (f"semantic_head.{theirs}", f"semantic_head.{ours}") for theirs, ours in _merged_branches(_mmdet_branches())
    ]
    rules += [(f"{head}.<*>.{norm}.{part}", f"{head}.<*>.norm.{part}") for head, norm, part in _norm_places()]
    return KeyMap("mmdet heads", [*rules, *((f"{head}.<*>", f"{head}.<*>") for head in MMDET_HEADS)])


MMDET_HEADS = ("rpn_head", "roi_head", "bbox_head", "semantic_head", "panoptic_fusion_head")
NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _norm_places() -> list[tuple[str, str, str]]:
    return [(head, norm, part) for head in MMDET_HEADS for norm in MMCV_NORMS for part in NORM_PARTS]


def detectron2(num_anchors: int, num_ratios: int, normed_retinanet: bool = False) -> KeyMap:
    """detectron2's heads -> mmdet's.

    Args:
        num_anchors: anchors per cell of the RPN or of RetinaNet.
        num_ratios: how many aspect ratios these are.
        normed_retinanet: whether the convolutions of RetinaNet's heads have norms.
    """
    rules = [*_rpn(num_anchors, num_ratios), *_box_heads(), *_mask_head(), *_semantic_head()]
    rules += _retinanet(num_anchors, num_ratios, normed_retinanet)
    # computed from the config in both toolboxes, and stored by old versions of detectron2
    rules += [Rule(f"{place}.<*>", None) for place in ("proposal_generator.anchor_generator", "anchor_generator")]
    rules += [Rule("pixel_mean", None), Rule("pixel_std", None)]
    return KeyMap("detectron2 heads", rules)


def _conv(theirs: str, ours: str) -> list[Rule]:
    """A convolution with a norm inside it."""
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
    for stage in ("<s>.", ""):  # Cascade R-CNN's, and the others'
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
    rules += [Rule("head.cls_score.<*>", "bbox_head.retina_cls.<*>", order)]
    rules += [Rule("head.bbox_pred.<*>", "bbox_head.retina_reg.<*>", order)]
    return rules


def _semantic_head() -> list[Rule]:
    """The branches have this package's names, with and without its own module around them."""
    levels = [f"p{level}" for level in FEATURES]
    rules = [(rule.theirs, rule.ours) for rule in panoptic_fpn.detectron2(levels).rules]
    branches = [Rule(f"sem_seg_head.{theirs}", f"semantic_head.{ours}") for theirs, ours in _merged_branches(rules)]
    return [Rule("sem_seg_head.predictor.<*>", "semantic_head.conv_logits.<*>", THINGS_LAST), *branches]


def _mmdet_branches() -> list[tuple[str, str | None]]:
    return [(rule.theirs, rule.ours) for rule in panoptic_fpn.mmdet().rules]


def _merged_branches(stock: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    return [*stock, ("semantic_merge.<*>", "<*>")]
