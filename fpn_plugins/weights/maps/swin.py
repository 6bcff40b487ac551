"""Swin: the layouts of Detectron2, the official releases, timm and mmdet -> ours.

Ours are the official names, with ``i`` the stage and ``j`` the block in it::

    patch_embed.{proj,norm}.*   absolute_pos_embed   norm<i>.*
    layers.<i>.blocks.<j>.{norm1,attn,norm2,mlp}.*   layers.<i>.downsample.{norm,reduction}.*

The index of relative positions and the masks of shifted windows, which some layouts store, are computed from the window
size, so they are dropped.
"""

from collections.abc import Sequence

from ..key_map import KeyMap, Rule
from ..transforms import LISTED_POSITIONS, UNFOLD_MERGING

STAGES = 4
_CLASSIFIER = ("norm.<*>", "head.<*>")
_COMPUTED = ("layers.<i>.blocks.<j>.attn.relative_position_index", "layers.<i>.blocks.<j>.attn_mask")
_SAME = [Rule(key, key) for key in ("patch_embed.<*>", "layers.<i>.blocks.<*>")]
_DOWNSAMPLE = Rule("layers.<i>.downsample.<*>", "layers.<i>.downsample.<*>")
_NORMS = Rule("norm<i>.<*>", "norm<i>.<*>")
_LISTED_POSITIONS = Rule("absolute_pos_embed", "absolute_pos_embed", LISTED_POSITIONS)
_MMDET_BLOCK = {"attn.w_msa": "attn", "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2", "norm<n>": "norm<n>"}


def detectron2() -> KeyMap:
    """Build the table of Detectron2's ``SwinTransformer``, which Swin's authors also use for detection."""
    rules = [*_SAME, _DOWNSAMPLE, _NORMS, Rule("absolute_pos_embed", "absolute_pos_embed")]
    return KeyMap("detectron2 Swin", rules).dropping(_COMPUTED)


def official() -> KeyMap:
    """Build the table of ``microsoft/Swin-Transformer``, a classifier without norms of the returned maps."""
    rules = [*_SAME, _DOWNSAMPLE, _LISTED_POSITIONS]
    return KeyMap("official Swin", rules, lacks=[_NORMS.theirs]).dropping([*_COMPUTED, *_CLASSIFIER])


def timm() -> KeyMap:
    """Build the table of timm's ``SwinTransformer``, a classifier that downsamples at the start of the next stage."""
    rules = [*_SAME, Rule("layers.<i+1>.downsample.<*>", "layers.<i>.downsample.<*>")]
    return KeyMap("timm Swin", rules, lacks=[_NORMS.theirs]).dropping([*_COMPUTED, *_CLASSIFIER])


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``SwinTransformer``, which uses other names and merges patches in another order."""
    rules = [_NORMS, _LISTED_POSITIONS, Rule("patch_embed.norm.<*>", "patch_embed.norm.<*>")]
    rules += [Rule("patch_embed.projection.<*>", "patch_embed.proj.<*>")]
    blocks, ours = "stages.<i>.blocks.<j>", "layers.<i>.blocks.<j>"
    rules += [Rule(f"{blocks}.{a}.<*>", f"{ours}.{b}.<*>") for a, b in _MMDET_BLOCK.items()]
    rules += [Rule("stages.<i>.downsample.<*>", "layers.<i>.downsample.<*>", UNFOLD_MERGING)]
    return KeyMap("mmdet Swin", rules).dropping([f"{blocks}.attn.w_msa.relative_position_index"])


def swin_layouts(stages: Sequence[int] = tuple(range(STAGES)), output_norms: bool = True) -> tuple[KeyMap, ...]:
    """Collect the tables for a Swin that returns the maps of some stages.

    Args:
        stages: stages whose maps are returned, ascending; weights that only later stages need and the norms of other
            stages are dropped.
        output_norms: whether the returned maps are normalized; otherwise, a detector's norms are dropped.
    """
    last = stages[-1]
    normed = stages if output_norms else ()
    unused = [f"norm{stage}.<*>" for stage in range(STAGES) if stage not in normed]
    unused += [f"{part}.{stage}.<*>" for part in ("layers", "stages") for stage in range(last + 1, STAGES)]
    # at the end of a stage, except in timm
    merging = [f"{part}.{last}.downsample.<*>" for part in ("layers", "stages")]
    tables = (table.dropping([*unused, *merging]) for table in (detectron2(), official(), mmdet()))
    return (*tables, timm().dropping(unused))
