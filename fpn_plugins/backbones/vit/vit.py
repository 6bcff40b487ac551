"""Plain Vision Transformer for detection: windowed attention, a few global blocks, one stride throughout.

::

    image --patches of 16--> tokens /16 --block-- ... --block--> map /16
                              + positions   window    global

    x = patches(image) + positions
    x = x + attention(norm(x));  x = x + mlp(norm(x))     for each block
    map = x                                               after each requested block

Sources: ViT (arXiv:2010.11929); ViTDet (arXiv:2203.16527), whose reference implementation is Detectron2's
``modeling/backbone/vit.py``. ViTDet's neck builds a pyramid from the last map; other necks take maps of several blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...checks import ascending, booleans, integer, integers, positive_int, positive_ints, positive_number
from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import as_map
from ...weights.maps.vit import vit_layouts
from ...weights.resize import resize_positions
from ...weights.vit import accept_vit_layouts
from ..base import Backbone, Part
from ..build import register_backbone
from ..layer_numbers import block_layers
from ..sizes import drop_path_rates, initialize_linear
from .attention import Attention
from .blocks import EncoderBlock, PatchEmbedding, ResidualBottleneck


@register_backbone
class ViT(Backbone):
    """Plain Vision Transformer, whose maps have ``embed_dim`` channels and stride ``patch_size``.

    The defaults are ViTDet's ViT-B. ViT-L is ``embed_dim=1024, depth=24, num_heads=16`` with
    ``global_block_indices=(5, 11, 17, 23)``, ViT-H ``embed_dim=1280, depth=32, num_heads=16`` with ``(7, 15, 23, 31)``.

    Args:
        img_size: side in pixels of the images that the global blocks' relative positions are made for; resized for
            images of other sizes.
        patch_size: side of a patch in pixels, the stride of every map.
        in_chans, drop_path_rate, gradient_checkpointing: see `Backbone`.
        embed_dim: channels of a token.
        depth: number of blocks.
        num_heads: heads of the attention; divides ``embed_dim``.
        mlp_ratio: hidden channels of the MLPs over ``embed_dim``.
        qkv_bias: whether queries, keys and values have a bias.
        use_abs_pos: add learned position embeddings to the tokens.
        use_rel_pos: add decomposed relative positions to the attention (they start at zero).
        window_size: side of the attention windows in tokens; 0 makes every block global.
        global_block_indices: blocks with attention over the whole map; all others attend in windows.
        residual_block_indices: blocks followed by a `ResidualBottleneck`.
        out_block_indices: blocks whose outputs are returned, ascending, one map each; ``None`` is the last block.
            Blocks after the last requested one are not built.
        pretrain_img_size: side in pixels of the images that the position embeddings are made for.
        pretrain_use_cls_token: the table of position embeddings has a first row for a class token, which is unused.
        frozen_stages: see `Backbone`; the stem is the patch and position embeddings, and every block is a stage.
        checkpoint: see `Backbone` and below.
        norm_eps: epsilon of all norms; Detectron2's configs have 1e-6, mmdet's ViTDet has 1e-5.

    Set the attributes ``mean`` and ``std`` for weights that expect other pixels than ImageNet's, as many of timm's own
    ViTs do (``augreg``, ``orig_in21k``: 0.5). Images can have any size from one patch on; pixels after the last whole
    patch are ignored (sizes round down, as in Detectron2). As in ViTDet, there is no class token and no final norm.

    State dict: Detectron2's names (``patch_embed.proj``, ``pos_embed``, ``blocks.<i>.*``). Checkpoints of Detectron2's
    and mmdet's ViTDet, MAE, timm's and DeiT's plain ViTs, DINO, DINOv2 without registers and SAM load unchanged,
    without class tokens and heads; see `fpn_plugins.weights.vit.accept_vit_layouts`. To keep position embeddings as
    they are, set ``pretrain_img_size`` to the checkpoint's image size; for SAM, ``pretrain_img_size=1024,
    pretrain_use_cls_token=False``. Networks whose blocks compute something else -- registers (DINOv2-reg), rotary
    positions (DINOv3, EVA-02), gated MLPs (DINOv2 giant), norms of queries and keys -- work only through
    `TimmBackbone`, with global attention in every block:
    ``TimmBackbone("vit_small_patch14_reg4_dinov2", out_indices=(11,), model_args={"dynamic_img_size": True})``.

    Raises:
        ValueError: block indices out of range, heads that do not divide ``embed_dim``, an image smaller than one patch,
            or a checkpoint of another architecture (lists keys and shapes).
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        use_abs_pos: bool = True,
        use_rel_pos: bool = True,
        window_size: int = 14,
        global_block_indices: Sequence[int] = (2, 5, 8, 11),
        residual_block_indices: Sequence[int] = (),
        out_block_indices: Sequence[int] | None = None,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        gradient_checkpointing: bool = False,
        frozen_stages: int = -1,
        checkpoint: str | os.PathLike[str] | None = None,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        positive_ints(img_size=img_size, patch_size=patch_size, in_chans=in_chans, embed_dim=embed_dim)
        positive_ints(num_heads=num_heads, pretrain_img_size=pretrain_img_size)
        booleans(qkv_bias=qkv_bias, use_abs_pos=use_abs_pos, use_rel_pos=use_rel_pos)
        booleans(pretrain_use_cls_token=pretrain_use_cls_token, gradient_checkpointing=gradient_checkpointing)
        _check_sides(patch_size, img_size=img_size, pretrain_img_size=pretrain_img_size)
        positive_number("norm_eps", norm_eps)
        positive_number("mlp_ratio", mlp_ratio)
        self.in_chans = in_chans
        among = f"among the {positive_int('depth', depth)} blocks (0..{depth - 1})"
        global_blocks = _check_indices("global_block_indices", global_block_indices, depth, among)
        residual_blocks = _check_indices("residual_block_indices", residual_block_indices, depth, among)
        outputs = (depth - 1,) if out_block_indices is None else out_block_indices
        self.out_block_indices = ascending("out_block_indices", outputs, depth, among)
        if integer("window_size", window_size) < 0:
            raise ValueError(f"window_size={window_size} must be a number of tokens, or 0 for global attention only")
        self.depth, self.patch_size = depth, patch_size
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.gradient_checkpointing = gradient_checkpointing
        self.feature_specs = tuple(FeatureSpec(embed_dim, patch_size) for _ in self.out_block_indices)
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + pretrain_use_cls_token
            self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, positions, embed_dim), std=0.02))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList()
        for index in range(self.out_block_indices[-1] + 1):
            window = 0 if index in global_blocks else window_size
            grid = window or img_size // patch_size
            attention = Attention(embed_dim, num_heads, qkv_bias, (grid, grid) if use_rel_pos else None, window)
            residual = ResidualBottleneck(embed_dim, norm_eps) if index in residual_blocks else None
            self.blocks.append(EncoderBlock(embed_dim, attention, mlp_ratio, rates[index], norm_eps, residual))
        initialize_linear(self)
        accept_vit_layouts(self, vit_layouts(len(self.blocks), depth), pretrain_use_cls_token)
        self.load_and_freeze(frozen_stages, checkpoint)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one map ``B C H/patch_size W/patch_size`` per entry of ``feature_specs``."""
        self.check_image(x)
        if min(x.shape[-2:]) < self.patch_size:
            raise ValueError(f"an image of {tuple(x.shape[-2:])} is smaller than one patch of {self.patch_size} pixels")
        tokens = self.patch_embed(x)  # B H W C
        if self.pos_embed is not None:
            table = self.pos_embed[:, 1:] if self.pretrain_use_cls_token else self.pos_embed
            tokens = tokens + resize_positions(table, *tokens.shape[1:3])
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = checkpointing.run(block, tokens, checkpointed=self.gradient_checkpointing)
            if index in self.out_block_indices:
                maps.append(as_map(tokens, x))
        return self.complete(maps)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the blocks after the last read map."""
        del self.blocks[self.out_block_indices[max(kept)] + 1 :]

    def stage_parts(self) -> list[list[Part]]:
        """List the embeddings, then each block."""
        stem: list[Part] = [self.patch_embed] if self.pos_embed is None else [self.patch_embed, self.pos_embed]
        stages: list[list[Part]] = [[block] for block in self.blocks]
        return [stem, *stages]

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the blocks from 1; blocks that are not built count too."""
        return block_layers(self), self.depth + 1


def _check_sides(patch_size: int, **sides: int) -> None:
    for argument, side in sides.items():
        if side < patch_size:
            raise ValueError(f"{argument}={side} must be at least one patch of {patch_size} pixels")


def _check_indices(argument: str, indices: Sequence[int], depth: int, among: str) -> frozenset[int]:
    chosen = integers(argument, indices, ordered=False)
    outside = [index for index in chosen if not 0 <= index < depth]
    if outside:
        raise ValueError(f"{argument}={list(chosen)}: {outside} are not {among}")
    return frozenset(chosen)
