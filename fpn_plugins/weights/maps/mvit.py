"""MViTv2: the layouts of Detectron2, the official repository and timm -> ours.

Ours, with ``i`` counting the blocks through all stages and ``s`` the stages::

    patch_embed.proj.*   blocks.<i>.*   norms.<s>.*

Names inside a block are the same everywhere, except for timm's projection of the shortcut.
"""

from collections.abc import Sequence

from ..key_map import KeyMap

# ImageNet's classifier and its class token, unused by detectors, which have their own norm after each stage
_CLASSIFIER = ("norm.<*>", "head.<*>", "cls_token")
_OUTPUT_NORMS = ("norms.<s>.<*>",)
_SAME = [(f"{part}.<*>",) * 2 for part in ("patch_embed", "blocks")]


def detectron2() -> KeyMap:
    """Build the table of Detectron2's ``MViT``, whose norms are named by level."""
    return KeyMap("detectron2 MViT", [("scale<s+2>_norm.<*>", "norms.<s>.<*>"), *_SAME])


def official() -> KeyMap:
    """Build the table of ``facebookresearch/mvit`` (``.pyth``), a classifier without norms of the returned maps."""
    return KeyMap("official MViTv2", _SAME, lacks=_OUTPUT_NORMS).dropping(_CLASSIFIER)


def timm(last_block_indices: Sequence[int]) -> KeyMap:
    """Build the table of timm's ``MultiScaleVit``, for the networks that double their channels inside the attention.

    ``last_block_indices`` are the positions of each stage's last block, counted through all stages.
    """
    firsts = [0, *(last + 1 for last in last_block_indices[:-1])]
    rules = [("patch_embed.<*>", "patch_embed.<*>")]
    # last stage first: in the inverse, the first rule that matches a block's number is then its stage's
    for stage, first in reversed(list(enumerate(firsts))):
        theirs, ours = f"stages.{stage}.blocks.<b>", f"blocks.<b+{first}>"
        rules += [(f"{theirs}.shortcut_proj_attn.<*>", f"{ours}.proj.<*>"), (f"{theirs}.<*>", f"{ours}.<*>")]
    return KeyMap("timm MViTv2", rules, lacks=_OUTPUT_NORMS).dropping(_CLASSIFIER)


def mvit_layouts(last_block_indices: Sequence[int], stages: Sequence[int]) -> tuple[KeyMap, ...]:
    """Collect the tables for an MViTv2 that may end before its last stage.

    Args:
        last_block_indices: see `timm`.
        stages: stages whose maps are returned, ascending; later stages and the norms of other stages are dropped.
    """
    kept_blocks, all_blocks = (last_block_indices[stage] + 1 for stage in (stages[-1], -1))
    unused = [f"blocks.{block}.<*>" for block in range(kept_blocks, all_blocks)]
    unused += [f"stages.{stage}.<*>" for stage in range(stages[-1] + 1, len(last_block_indices))]
    unused += [f"scale{stage + 2}_norm.<*>" for stage in range(len(last_block_indices)) if stage not in stages]
    return tuple(table.dropping(unused) for table in (detectron2(), official(), timm(last_block_indices)))
