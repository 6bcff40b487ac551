"""Mask heads of Cascade R-CNN: mmdet's detector has one for each stage, Detectron2's one for all."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

MASK_HEAD = "roi_head.mask_head."


def match_mask_heads(
    values: dict[str, Tensor], origin: dict[str, str], wanted: set[str], mask_stage: int | None
) -> None:
    """Turn one mask head for all of Cascade R-CNN's stages into one for each, or the other way, as the target has it.

    Args:
        values: by common name, changed in place.
        origin: the checkpoint's key of each, changed likewise.
        wanted: common names of the target.
        mask_stage: which stage's mask head is to stand for all, where they differ.

    Raises:
        ValueError: mask heads that differ without a ``mask_stage``, or one that there is not.
    """
    have, want = (
        sorted({int(m[1]) for n in names if (m := re.match(rf"{re.escape(MASK_HEAD)}(\d+)\.", n))})
        for names in (values, wanted)
    )
    if bool(have) == bool(want) or not any(name.startswith(MASK_HEAD) for name in wanted):
        return
    masks = {name: values.pop(name) for name in list(values) if name.startswith(MASK_HEAD)}
    keys = {name: origin.pop(name) for name in masks}
    if want:  # one head that every stage shares gives the average that mmdet takes
        for stage in want:
            for name, value in masks.items():
                copy = f"{MASK_HEAD}{stage}.{name.removeprefix(MASK_HEAD)}"
                values[copy], origin[copy] = value.clone(), keys[name]
        return
    stage = _one_of(masks, have, mask_stage)
    for name, value in masks.items():
        if name.startswith(f"{MASK_HEAD}{stage}."):
            one = MASK_HEAD + name.removeprefix(f"{MASK_HEAD}{stage}.")
            values[one], origin[one] = value, keys[name]


def _one_of(masks: Mapping[str, Tensor], stages: list[int], mask_stage: int | None) -> int:
    """The stage whose mask head stands for all."""
    if mask_stage is not None:
        if mask_stage not in stages:
            raise ValueError(f"mask_stage={mask_stage} is not among the stages {stages} of the checkpoint")
        return mask_stage
    first = f"{MASK_HEAD}{stages[0]}."
    for name, value in masks.items():
        stage_free = re.sub(rf"^{re.escape(MASK_HEAD)}\d+\.", first, name)
        if not torch.equal(value, masks[stage_free]):
            raise ValueError(
                f"mmdet averages the masks of {len(stages)} different mask heads, detectron2 has one: no conversion is "
                f"exact. Pass mask_stage={stages[-1]} to take the last stage's alone"
            )
    return stages[0]
