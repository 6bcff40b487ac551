"""Swin: the layouts of detectron2, of the official releases, of timm and of mmdet -> ours.

Ours are the official names, with ``i`` the stage and ``j`` the block in it::

    patch_embed.{proj,norm}.*   absolute_pos_embed   norm<i>.*
    layers.<i>.blocks.<j>.{norm1,attn,norm2,mlp}.*   layers.<i>.downsample.{norm,reduction}.*

The index of relative positions and the masks of shifted windows, which some layouts store, follow from the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..key_map import KeyMap, Rule
from ..transforms import LISTED_POSITIONS, UNFOLD_MERGING

STAGES = 4
_CLASSIFIER = [Rule("norm.<*>", None), Rule("head.<*>", None)]
_OUTPUT_NORMS = ("norm<i>.<*>",)


class SwinLayouts:
    """The tables to try for the keys of a Swin that returns the maps of some stages.

    Args:
        stages: the stages whose maps are wanted, ascending; what only later ones need, and the norms of others, is
            dropped.
        output_norms: whether the maps are normalised; without it, a detector's norms are dropped.
    """

    def __init__(self, stages: Sequence[int] = tuple(range(STAGES)), output_norms: bool = True) -> None:
        self.stages = tuple(stages)
        self.normed = self.stages if output_norms else ()

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Tables of the four layouts, whatever the ``keys``."""
        return [self.detectron2(), self.official(), self.timm(), self.mmdet()]

    def detectron2(self) -> KeyMap:
        """detectron2's ``SwinTransformer``, and the one of Swin's authors for detection: as ours, with an index."""
        rules = [*self._embedding("proj"), *self._norms(), Rule("absolute_pos_embed", "absolute_pos_embed")]
        return KeyMap("detectron2 Swin", [*rules, *self._stages()])

    def official(self) -> KeyMap:
        """``microsoft/Swin-Transformer``: a classifier, so without the norms of our maps."""
        rules = [*self._embedding("proj"), *_CLASSIFIER, self._listed_positions(), *self._stages()]
        return KeyMap("official Swin", rules, lacks=_OUTPUT_NORMS)

    def timm(self) -> KeyMap:
        """timm's ``SwinTransformer``: a classifier that reduces at the start of the next stage."""
        rules = [*self._embedding("proj"), *_CLASSIFIER, *self._stages(downsample_at=1)]
        return KeyMap("timm Swin", rules, lacks=_OUTPUT_NORMS)

    def mmdet(self) -> KeyMap:
        """mmdet's ``SwinTransformer``: names of its own, and patches merged in another order."""
        rules = [*self._embedding("projection"), *self._norms(), self._listed_positions()]
        for stage in range(STAGES):
            theirs, ours = f"stages.{stage}", f"layers.{stage}"
            kept = stage <= self.stages[-1]
            block, our_block = f"{theirs}.blocks.<j>", f"{ours}.blocks.<j>"
            names = {"attn.w_msa": "attn", "ffn.layers.0.0": "mlp.fc1", "ffn.layers.1": "mlp.fc2"}
            names |= {norm: norm for norm in ("norm1", "norm2")}
            rules += [Rule(f"{block}.attn.w_msa.relative_position_index", None)]
            rules += [Rule(f"{block}.{a}.<*>", f"{our_block}.{b}.<*>" if kept else None) for a, b in names.items()]
            merged = f"{ours}.downsample.<*>" if stage < self.stages[-1] else None
            rules += [Rule(f"{theirs}.downsample.<*>", merged, UNFOLD_MERGING)]
        return KeyMap("mmdet Swin", rules)

    def _embedding(self, convolution: str) -> list[Rule]:
        names = {convolution: "proj", "norm": "norm"}
        return [Rule(f"patch_embed.{a}.<*>", f"patch_embed.{b}.<*>") for a, b in names.items()]

    def _norms(self) -> list[Rule]:
        names = [f"norm{stage}.<*>" for stage in range(STAGES)]
        return [Rule(name, name if stage in self.normed else None) for stage, name in enumerate(names)]

    def _listed_positions(self) -> Rule:
        return Rule("absolute_pos_embed", "absolute_pos_embed", LISTED_POSITIONS)

    def _stages(self, downsample_at: int = 0) -> list[Rule]:
        """Blocks in the official names; the reduction is stored in the stage ``downsample_at`` after ours."""
        blocks = "layers.<i>.blocks.<j>"
        rules = [Rule(f"{blocks}.attn.relative_position_index", None), Rule(f"{blocks}.attn_mask", None)]
        for stage in range(STAGES):
            name = f"layers.{stage}.blocks.<*>"
            rules += [Rule(name, name if stage <= self.stages[-1] else None)]
            theirs, ours = (f"layers.{number}.downsample.<*>" for number in (stage + downsample_at, stage))
            rules += [Rule(theirs, ours if stage < self.stages[-1] else None)]
        return rules
