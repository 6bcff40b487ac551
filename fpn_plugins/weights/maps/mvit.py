"""MViTv2: the layouts of detectron2, of the official repository and of timm -> ours.

Ours, with ``i`` counting the blocks through all stages and ``s`` the stages::

    patch_embed.proj.*   blocks.<i>.*   norms.<s>.*

The inside of a block is called the same everywhere but for the projection of its shortcut in timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..key_map import KeyMap

Rules = list[tuple[str, str | None]]

# ImageNet's classifier and its class token: a detector has no use for them, and has norms of its own behind each stage
_CLASSIFIER: Rules = [("norm.<*>", None), ("head.<*>", None), ("cls_token", None)]
_OUTPUT_NORMS = ("norms.<s>.<*>",)


def detectron2() -> KeyMap:
    """detectron2's ``MViT``: the norms are called by their level."""
    same = [(f"{part}.<*>",) * 2 for part in ("patch_embed", "blocks")]
    return KeyMap("detectron2 MViT", [("scale<s+2>_norm.<*>", "norms.<s>.<*>"), *same])


def official() -> KeyMap:
    """``facebookresearch/mvit``: a classifier (``.pyth``), so without our norms."""
    same: Rules = [(f"{part}.<*>",) * 2 for part in ("patch_embed", "blocks")]
    return KeyMap("official MViTv2", [*same, *_CLASSIFIER], lacks=_OUTPUT_NORMS)


def timm(last_block_indices: Sequence[int]) -> KeyMap:
    """timm's ``MultiScaleVit`` of one of the networks that double their channels inside the attention.

    Args:
        last_block_indices: position of the last block of each stage, counted through all stages.
    """
    firsts = [0, *(last + 1 for last in last_block_indices[:-1])]
    rules: Rules = []
    # the last stage first: read backwards, the first rule that a block's number fits is then that of its stage
    for stage, first in reversed(list(enumerate(firsts))):
        theirs, ours = f"stages.{stage}.blocks.<b>", f"blocks.<b+{first}>"
        rules += [(f"{theirs}.shortcut_proj_attn.<*>", f"{ours}.proj.<*>"), (f"{theirs}.<*>", f"{ours}.<*>")]
    rules += [("patch_embed.<*>", "patch_embed.<*>"), *_CLASSIFIER]
    return KeyMap("timm MViTv2", rules, lacks=_OUTPUT_NORMS)


class MViTLayouts:
    """The tables to try for the keys of an MViTv2 with these blocks, of which the first stages may be all it has.

    Args:
        last_block_indices: position of the last block of each stage.
        stages: the stages whose maps are wanted; later ones, and the norms of others, are dropped.
    """

    def __init__(self, last_block_indices: Sequence[int], stages: Sequence[int]) -> None:
        self.last_block_indices = tuple(last_block_indices)
        self.stages = tuple(stages)

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Tables of the three layouts."""
        unused: Rules = []
        for stage, last in enumerate(self.last_block_indices):
            if stage > self.stages[-1]:
                first = self.last_block_indices[stage - 1] + 1
                unused += [(f"blocks.{block}.<*>", None) for block in range(first, last + 1)]
                unused += [(f"stages.{stage}.<*>", None)]
            if stage not in self.stages:
                unused += [(f"scale{stage + 2}_norm.<*>", None)]
        tables = (detectron2(), official(), timm(self.last_block_indices))
        return [KeyMap(table.layout, [*unused, *table.rules], lacks=table.lacks) for table in tables]
