"""What has to be set so that both toolboxes train alike, detectors built with it, and comparisons of their losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from both_toolboxes import Batch, Pair, build_pair, gradients
from calibration import draw
from torch import Tensor, nn

from fpn_plugins.conversion import convert

TOLERANCE = 1e-4  # relative
# pixels of a mask's target that an object covers by exactly one half: the two RoIAlign may round them differently
MASK_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 5e-3  # of the largest entry of each parameter, such pixels included
STAGES = (0, 1, 2)
CONFIGS = {
    "retinanet": ("configs/mmdet/demo_retinanet.py", "configs/detectron2/demo_retinanet.yaml"),
    "mask_rcnn": ("configs/mmdet/demo_mask_rcnn.py", "configs/detectron2/demo_mask_rcnn.py"),
    "panoptic": ("configs/mmdet/demo_panoptic_fpn.py", "configs/detectron2/demo_panoptic_fpn.py"),
    "cascade": (
        "mmdet::cascade_rcnn/cascade-mask-rcnn_r50-caffe_fpn_1x_coco.py",
        "detectron2::Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    ),
}
TWO_STAGES = ["model.train_cfg.rpn.assigner.min_pos_iou=0.0", "model.train_cfg.rcnn.assigner.match_low_quality=False"]
# what has to be set in each for the same losses: mmdet's --cfg-options, Detectron2's command line
SAME: dict[str, tuple[list[str], list[str]]] = {
    "retinanet": (
        [],
        ["MODEL.META_ARCHITECTURE=FPNPluginsRetinaNet", "MODEL.FPN_PLUGINS.NORMALIZER_MOMENTUM=0.0"],
    ),
    "mask_rcnn": (TWO_STAGES, []),
    "panoptic": ([*TWO_STAGES, "model.semantic_head.loss_seg.avg_non_ignore=True"], []),
    "cascade": (
        [
            "model.train_cfg.rpn.assigner.min_pos_iou=0.0",
            "model.train_cfg.rpn.allowed_border=-1",
            "model.roi_head.stage_loss_weights=[1.0,1.0,1.0]",
            "model.roi_head.bbox_head.2.bbox_coder.target_stds=[0.03333333,0.03333333,0.06666667,0.06666667]",
            *(f"model.train_cfg.rcnn.{stage}.sampler.add_gt_as_proposals=False" for stage in STAGES),
        ],
        [
            "MODEL.RPN.SMOOTH_L1_BETA=0.1111111111111111",
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA=1.0",
            "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT=False",
        ],
    ),
}
# all anchors and regions are taken, and NMS, whose rounding differs, removes none: nothing is left to chance
ALL = 100_000
PER_LEVEL, PER_IMAGE = 300, 2000
MMDET_PROPOSALS = [
    f"model.train_cfg.rpn.sampler.num={ALL}",
    f"model.train_cfg.rpn_proposal.nms_pre={PER_LEVEL}",
    f"model.train_cfg.rpn_proposal.max_per_img={PER_IMAGE}",
    "model.train_cfg.rpn_proposal.nms.iou_threshold=1.0",
]
MASK_RCNN_TAKES = (
    [*MMDET_PROPOSALS, f"model.train_cfg.rcnn.sampler.num={ALL}"],
    [
        f"model.proposal_generator.batch_size_per_image={ALL}",
        f"model.proposal_generator.pre_nms_topk=[{PER_LEVEL},{PER_LEVEL}]",
        f"model.proposal_generator.post_nms_topk=[{PER_IMAGE},{PER_IMAGE}]",
        "model.proposal_generator.nms_thresh=1.0",
        f"model.roi_heads.batch_size_per_image={ALL}",
    ],
)
TAKES: dict[str, tuple[list[str], list[str]]] = {
    "retinanet": ([], []),  # it has no sampler
    "mask_rcnn": MASK_RCNN_TAKES,
    "panoptic": MASK_RCNN_TAKES,
    "cascade": (
        [
            *MMDET_PROPOSALS,
            f"model.train_cfg.rpn_proposal.nms_pre={PER_LEVEL // 2}",  # its box heads are large
            *(f"model.train_cfg.rcnn.{stage}.sampler.num={ALL}" for stage in STAGES),
        ],
        [
            f"MODEL.RPN.BATCH_SIZE_PER_IMAGE={ALL}",
            f"MODEL.RPN.PRE_NMS_TOPK_TRAIN={PER_LEVEL // 2}",
            f"MODEL.RPN.POST_NMS_TOPK_TRAIN={PER_IMAGE}",
            "MODEL.RPN.NMS_THRESH=1.0",
            f"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE={ALL}",
        ],
    ),
}


def pair(
    name: str,
    batch: Batch,
    same: bool = True,
    mmdet: tuple[str, ...] = (),
    detectron2: tuple[str, ...] = (),
    **more: Any,
) -> Pair:
    """Both detectors; ``same=False`` leaves what is in ``SAME`` at its default."""
    ours, theirs = SAME[name] if same else ([], [])
    options = [*ours, *TAKES[name][0], *mmdet], [*theirs, *TAKES[name][1], *detectron2]
    return build_pair((CONFIGS[name][0], options[0]), (CONFIGS[name][1], options[1]), batch, **more)


def rpn_factor(log: Mapping[str, float]) -> float:
    """mmdet divides the losses of the RPN by the number of sampled anchors, Detectron2 by as many as it asks for."""
    return ALL / (log["rpn/num_pos_anchors"] + log["rpn/num_neg_anchors"])


def comparable(losses: dict[str, Tensor], log: Mapping[str, float]) -> dict[str, Tensor]:
    """Detectron2's losses with mmdet's divisor in the RPN."""
    return {name: value * rpn_factor(log) if "rpn" in name else value for name, value in losses.items()}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Every term, none of which may be zero."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        one, other = float(value.detach()), float(theirs[name].detach())
        print(f"{name:22} mmdet {one:.7g}  Detectron2 {other:.7g}  relative difference {abs(one - other) / one:.1e}")
        tolerance = MASK_TOLERANCE if name == "loss_mask" else TOLERANCE
        assert one > 0 and other == pytest.approx(one, rel=tolerance), name


def assert_same_gradients(
    models: Pair, ours: Tensor, theirs: Tensor, of_box_heads: float = 1.0, mask_stage: int | None = None
) -> None:
    """mmdet's go through the production converter, as weights do; those of its box heads times a factor."""
    wanted = gradients(models.detectron2, theirs)
    got, _ = convert(gradients(models.mmdet, ours), wanted, mask_stage=mask_stage)
    moving = {key: value for key, value in wanted.items() if value.any()}
    assert len(moving) > len(wanted) / 4  # the others are buffers, or frozen
    assert all(not got[key].any() for key in wanted.keys() - moving.keys())
    apart = []
    for key, value in moving.items():
        factor = of_box_heads if key.startswith(("roi_heads.box_head", "roi_heads.box_predictor")) else 1.0
        apart.append(float((factor * got[key] - value).abs().max() / value.abs().max()))
    print(
        f"gradients of {len(moving)} parameters: they differ by up to {max(apart):.1e} of a parameter's largest entry"
    )
    assert all(difference < GRADIENT_TOLERANCE for difference in apart)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of all terms."""
    return torch.stack(list(losses.values())).sum()


def assert_differ(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """One term, by more than what `assert_same` forgives."""
    one, other = float(ours[name].detach()), float(theirs[name].detach())
    print(f"{name:22} mmdet {one:.7g}  Detectron2 {other:.7g}  differ by {abs(one - other) / one:.1e}")
    assert abs(one - other) > 5 * TOLERANCE * one


def prepare_cascade(model: Any) -> None:
    """Random weights, and one mask head for all three stages, as Detectron2 has it."""
    model.roi_head.mask_head = nn.ModuleList([draw(model).roi_head.mask_head[0]] * len(STAGES))
