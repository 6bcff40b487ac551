"""Swin: the layouts of detectron2, of the official releases, of timm and of mmdet -> ours.

Ours are the official names, with ``i`` the stage and ``j`` the block in it::

    patch_embed.{proj,norm}.*   absolute_pos_embed   norm<i>.*
    layers.<i>.blocks.<j>.{norm1,attn,norm2,mlp}.*   layers.<i>.downsample.{norm,reduction}.*

The index of relative positions and the masks of shifted windows, which some layouts store, follow from the window and
are dropped. Every table takes the ascending ``stages`` whose maps are returned: weights that only later stages need,
and the norms of other stages, are dropped as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..key_map import KeyMap, Rule
from ..transforms import LISTED_POSITIONS, UNFOLD_MERGING

STAGES = 4
ALL_STAGES = tuple(range(STAGES))
_CLASSIFIER = [Rule("norm.<*>", None), Rule("head.<*>", None)]
_OUTPUT_NORMS = ("norm<i>.<*>",)
_LISTED_POSITIONS = Rule("absolute_pos_embed", "absolute_pos_embed", LISTED_POSITIONS)
_MMDET_BLOCK = {
    "attn.w_msa": "attn",
    "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}


def detectron2(stages: Sequence[int] = ALL_STAGES, output_norms: bool = True) -> KeyMap:
    """Table of detectron2's ``SwinTransformer``, and of the one that Swin's authors use for detection."""
    rules = [*_embedding("proj"), *_norms(stages, output_norms), Rule("absolute_pos_embed", "absolute_pos_embed")]
    return KeyMap("detectron2 Swin", [*rules, *_blocks(stages)])


def official(stages: Sequence[int] = ALL_STAGES) -> KeyMap:
    """Table of ``microsoft/Swin-Transformer``, a classifier without norms of the returned maps."""
    rules = [*_embedding("proj"), *_CLASSIFIER, _LISTED_POSITIONS, *_blocks(stages)]
    return KeyMap("official Swin", rules, lacks=_OUTPUT_NORMS)


def timm(stages: Sequence[int] = ALL_STAGES) -> KeyMap:
    """Table of timm's ``SwinTransformer``, a classifier that downsamples at the start of the next stage."""
    rules = [*_embedding("proj"), *_CLASSIFIER, *_blocks(stages, downsample_at=1)]
    return KeyMap("timm Swin", rules, lacks=_OUTPUT_NORMS)


def mmdet(stages: Sequence[int] = ALL_STAGES, output_norms: bool = True) -> KeyMap:
    """Table of mmdet's ``SwinTransformer``, which has other names and merges patches in another order."""
    rules = [*_embedding("projection"), *_norms(stages, output_norms), _LISTED_POSITIONS]
    for stage in ALL_STAGES:
        theirs, ours = f"stages.{stage}", f"layers.{stage}"
        rules += [Rule(f"{theirs}.blocks.<j>.attn.w_msa.relative_position_index", None)]
        for part, our_part in _MMDET_BLOCK.items():
            place = f"{ours}.blocks.<j>.{our_part}.<*>" if stage <= stages[-1] else None
            rules += [Rule(f"{theirs}.blocks.<j>.{part}.<*>", place)]
        merged = f"{ours}.downsample.<*>" if stage < stages[-1] else None
        rules += [Rule(f"{theirs}.downsample.<*>", merged, UNFOLD_MERGING)]
    return KeyMap("mmdet Swin", rules)


def swin_layouts(stages: Sequence[int] = ALL_STAGES, output_norms: bool = True) -> tuple[KeyMap, ...]:
    """Collect the tables of the four layouts.

    Args:
        stages: stages whose maps are returned, ascending.
        output_norms: whether the returned maps are normalized; without it, a detector's norms are dropped.
    """
    return detectron2(stages, output_norms), official(stages), timm(stages), mmdet(stages, output_norms)


def _embedding(convolution: str) -> list[Rule]:
    names = {convolution: "proj", "norm": "norm"}
    return [Rule(f"patch_embed.{theirs}.<*>", f"patch_embed.{ours}.<*>") for theirs, ours in names.items()]


def _norms(stages: Sequence[int], output_norms: bool) -> list[Rule]:
    kept = stages if output_norms else ()
    names = [f"norm{stage}.<*>" for stage in ALL_STAGES]
    return [Rule(name, name if stage in kept else None) for stage, name in enumerate(names)]


def _blocks(stages: Sequence[int], downsample_at: int = 0) -> list[Rule]:
    """Blocks in the official names; the reduction is stored in the stage ``downsample_at`` after ours."""
    blocks = "layers.<i>.blocks.<j>"
    rules = [Rule(f"{blocks}.attn.relative_position_index", None), Rule(f"{blocks}.attn_mask", None)]
    for stage in ALL_STAGES:
        name = f"layers.{stage}.blocks.<*>"
        rules += [Rule(name, name if stage <= stages[-1] else None)]
        theirs, ours = (f"layers.{number}.downsample.<*>" for number in (stage + downsample_at, stage))
        rules += [Rule(theirs, ours if stage < stages[-1] else None)]
    return rules
