"""Plain Vision Transformer for detection: windowed attention, a few global blocks, one stride throughout.

::

    image --patches of 16--> tokens /16 --block-- ... --block--> map /16
                              + positions   window    global

Sources: ViT (arXiv:2010.11929); ViTDet (arXiv:2203.16527), whose reference implementation is detectron2's
``modeling/backbone/vit.py``. A pyramid is made of the last map by ViTDet's neck, or of several blocks' maps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import memory_format_of
from ...weights.maps.vit import vit_layouts
from ...weights.resize import resize_positions
from ...weights.vit import accept_vit_layouts
from ..base import Backbone, check_ascending, check_frozen_stages, initialize_linear
from .blocks import PatchEmbedding, ViTBlock


class ViT(Backbone):
    """Plain Vision Transformer: image in, maps of stride ``patch_size`` out.

    The defaults are ViTDet's ViT-B. ViT-L is ``embed_dim=1024, depth=24, num_heads=16`` with
    ``global_block_indices=(5, 11, 17, 23)``, ViT-H ``embed_dim=1280, depth=32, num_heads=16`` with ``(7, 15, 23, 31)``.

    Args:
        img_size: side in pixels of the images that the global blocks' relative positions are made for; other sizes get
            them resized.
        patch_size: side of a patch in pixels, the stride of every map.
        in_chans: channels of the image.
        embed_dim: channels of a token.
        depth: number of blocks.
        num_heads: heads of the attention; divides ``embed_dim``.
        mlp_ratio: hidden channels of the MLPs over ``embed_dim``.
        qkv_bias: whether queries, keys and values have a bias.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 in the first.
        use_abs_pos: add learned position embeddings to the tokens.
        use_rel_pos: add decomposed relative positions to the attention (they start at zero).
        window_size: side of the attention windows in tokens; 0 makes every block global.
        global_block_indices: blocks with attention over the whole map; all others attend in windows.
        residual_block_indices: blocks followed by a `ResidualBottleneck`.
        out_block_indices: blocks whose outputs are returned, ascending, one map each; ``None`` is the last block.
            Blocks after the last wanted one are left out.
        pretrain_img_size: side in pixels of the images that the position embeddings are made for.
        pretrain_use_cls_token: the table of position embeddings has a first row for a class token, which is not used.
        gradient_checkpointing: compute each block again in the backward pass (less memory, about a third more time).
        frozen_stages: fix (no gradient) the patch and position embeddings (0) and that many blocks; -1 is nothing.
        checkpoint: weights file; see below.
        norm_eps: of all norms. detectron2's configs say 1e-6, mmdet's ViTDet uses 1e-5.

    Attributes:
        feature_specs: ``embed_dim`` channels at stride ``patch_size``, once per returned map.

    Input: ``B in_chans H W``, RGB, normalized with ImageNet's mean and standard deviation (`pixel_mean`, `pixel_std`);
    set the attributes ``mean`` and ``std`` for weights of other pixels, as many of timm's own ViTs are (``augreg``,
    ``orig_in21k``: 0.5). Any size from one patch on; pixels beyond the last whole patch are not seen: sizes round down,
    as in detectron2. There is no class token and no final norm, as in ViTDet.

    State dict: detectron2's names (``patch_embed.proj``, ``pos_embed``, ``blocks.<i>.*``). Checkpoints of detectron2's
    and mmdet's ViTDet, of MAE, of timm's and DeiT's plain ViTs, of DINO, of DINOv2 without registers and of SAM load as
    they are (`fpn_plugins.weights.vit.accept_vit_layouts`): what belongs to their class token and heads is dropped,
    LayerScale is folded into the weights, relative positions that they lack start at zero. For SAM set
    ``pretrain_img_size=1024, pretrain_use_cls_token=False`` to keep its position embeddings as they are, for the others
    ``pretrain_img_size`` to their image size. Networks whose blocks compute something else -- registers (DINOv2-reg),
    rotary positions (DINOv3, EVA-02), gated MLPs (DINOv2 giant), norms of queries and keys -- have no exact form here;
    they work through `TimmBackbone`, with attention over the whole map in every block:
    ``TimmBackbone("vit_small_patch14_reg4_dinov2", out_indices=(11,), model_args={"dynamic_img_size": True})``.

    Raises:
        ValueError: block indices out of range, heads that do not divide ``embed_dim``, an image below one patch, or a
            checkpoint of another architecture (lists keys and shapes).
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
        if depth < 1:
            raise ValueError(f"depth={depth} must be at least one block")
        global_blocks = _check_indices(global_block_indices, depth, "global_block_indices")
        residual_blocks = _check_indices(residual_block_indices, depth, "residual_block_indices")
        outputs = (depth - 1,) if out_block_indices is None else out_block_indices
        among = f"among the {depth} blocks (0..{depth - 1})"
        self.out_block_indices = check_ascending("out_block_indices", outputs, depth, among)
        blocks = "0 (the embeddings) or a number of blocks up to"
        self.frozen_stages = check_frozen_stages(frozen_stages, self.out_block_indices[-1] + 1, blocks)
        if window_size < 0:
            raise ValueError(f"window_size={window_size} must be a number of tokens, or 0 for global attention only")
        self.patch_size = patch_size
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.gradient_checkpointing = gradient_checkpointing
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + pretrain_use_cls_token
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList()
        for index in range(self.out_block_indices[-1] + 1):
            window = 0 if index in global_blocks else window_size
            grid = window or img_size // patch_size
            self.blocks.append(
                ViTBlock(
                    embed_dim,
                    num_heads,
                    mlp_ratio,
                    qkv_bias,
                    window_size=window,
                    rel_pos_size=(grid, grid) if use_rel_pos else None,
                    drop_path=rates[index],
                    residual=index in residual_blocks,
                    norm_eps=norm_eps,
                )
            )
        self.feature_specs = tuple(FeatureSpec(embed_dim, patch_size) for _ in self.out_block_indices)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        initialize_linear(self)
        accept_vit_layouts(self, vit_layouts(len(self.blocks), depth), pretrain_use_cls_token)
        if checkpoint is not None:
            self.load_weights(checkpoint)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one map ``B C H/patch_size W/patch_size`` per entry of ``feature_specs``."""
        self._check_size(x)
        layout = memory_format_of(x)
        tokens = self.patch_embed(x)  # B H W C
        if self.pos_embed is not None:
            table = self.pos_embed[:, 1:] if self.pretrain_use_cls_token else self.pos_embed
            tokens = tokens + resize_positions(table, *tokens.shape[1:3])
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = checkpointing.run(block, tokens, checkpointed=self.gradient_checkpointing)
            if index in self.out_block_indices:
                maps.append(tokens.permute(0, 3, 1, 2).contiguous(memory_format=layout))
        return tuple(maps)

    def _check_size(self, x: Tensor) -> None:
        if any(side < self.patch_size for side in x.shape[-2:]):
            raise ValueError(f"an image of {tuple(x.shape[-2:])} is smaller than one patch of {self.patch_size} pixels")

    def frozen_parts(self) -> Iterator[nn.Module | nn.Parameter]:
        """The embeddings, and ``frozen_stages`` blocks."""
        if self.frozen_stages < 0:
            return
        yield self.patch_embed
        if self.pos_embed is not None:
            yield self.pos_embed
        yield from self.blocks[: self.frozen_stages]


def _check_indices(indices: Sequence[int], depth: int, argument: str) -> frozenset[int]:
    outside = [index for index in indices if not 0 <= index < depth]
    if outside:
        raise ValueError(f"{argument}={list(indices)}: {outside} are not among the {depth} blocks (0..{depth - 1})")
    return frozenset(indices)
