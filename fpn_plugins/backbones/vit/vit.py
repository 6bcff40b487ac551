"""Plain Vision Transformer for detection: windowed attention, a few global blocks, one stride throughout.

::

    image --patches of 16--> tokens /16 --block-- ... --block--> map /16
                              + positions   window    global

    x = patches(image) + positions
    x = x + attention(norm(x));  x = x + mlp(norm(x))     for each block
    map = norm(x)                                         after each requested block; ViTDet has no such norm

Sources: ViT (arXiv:2010.11929); ViTDet (arXiv:2203.16527), whose reference implementation is Detectron2's
``modeling/backbone/vit.py``; for the networks with a name, see ``design.py``, ``rotary.py`` and ``sequence.py``.
ViTDet's neck builds a pyramid from the last map; other necks take maps of several blocks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import ascending, booleans, positive_ints
from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import as_map
from ...weights.foundation_vit import accept_foundation_layouts
from ...weights.maps.foundation_vit import foundation_layouts
from ...weights.maps.vit import vit_layouts
from ...weights.vit import accept_vit_layouts
from ..base import Backbone, Part
from ..build import register_backbone
from ..layer_numbers import block_layers
from ..lora import add_lora_from
from ..sizes import drop_path_rates, initialize_linear
from ..timm.networks import pixel_statistics
from ..timm.vit_design import read_vit_design
from .blocks import PatchEmbedding
from .design import ViTDesign, changed_design, check_side
from .parts import block_windows, embedding, encoder_block, position_map, residual_block_set, token_norm
from .sequence import TokenGrid, choose_layout


@register_backbone
class ViT(Backbone):
    """Plain Vision Transformer, whose maps have ``embed_dim`` channels and stride ``patch_size``.

    Without a ``name``, it is ViTDet's, by default ViT-B. ViT-L is ``embed_dim=1024, depth=24, num_heads=16`` with
    ``global_block_indices=(5, 11, 17, 23)``, ViT-H ``embed_dim=1280, depth=32, num_heads=16`` with ``(7, 15, 23, 31)``.

    With the ``name`` of a foundation model, it is that network, of which every argument that is ``None`` is a part:
    class token and registers, rotary positions for any image size, SwiGLU, factors of the branches, final norm. With
    every block global, its maps equal those of timm's ``forward_intermediates(..., norm=True)``.

    Args:
        img_size: side in pixels of the images that the global blocks' relative positions are made for; resized for
            images of other sizes.
        patch_size: side of a patch in pixels, the stride of every map; 16.
        in_chans, drop_path_rate, gradient_checkpointing: see `Backbone`.
        embed_dim: channels of a token; 768.
        depth: number of blocks; 12.
        num_heads: heads of the attention; divides ``embed_dim``; 12.
        mlp_ratio: hidden channels of the MLPs over ``embed_dim``; 4.
        qkv_bias: whether queries, keys and values have a bias; ``True``. Like the next two and
            ``pretrain_use_cls_token``, decided by a ``name``.
        use_abs_pos: add learned position embeddings to the tokens; ``True``.
        use_rel_pos: add decomposed relative positions to the attention (they start at zero); ``True``.
        window_size: side of the attention windows in tokens; 0 makes every block global. 14; with a ``name``, 0.
        global_block_indices: blocks with attention over the whole map; all others attend in windows. (2, 5, 8, 11);
            with a ``name``, the last block of each quarter.
        residual_block_indices: blocks followed by a `ResidualBottleneck`.
        out_block_indices: blocks whose outputs are returned, ascending, one map each; ``None`` is the last block.
            Blocks after the last requested one are not built.
        pretrain_img_size: side in pixels of the images that the position embeddings are made for; 224.
        pretrain_use_cls_token: the table of position embeddings has a first row for a class token, which is unused;
            ``True``.
        frozen_stages: see `Backbone`; the stem is the embeddings and tokens, and every block is a stage.
        checkpoint: see `Backbone` and below.
        norm_eps: epsilon of all norms; 1e-6. Detectron2's configs have 1e-6, mmdet's ViTDet has 1e-5.
        name: timm's name of a plain network, with or without the tag of its weights: ``vit_*_dinov3``, ``eva02_*``,
            ``vit_pe_*``, ``vit_*_reg4_dinov2``, ``vit_*_siglip_*`` and others. Needs timm.
        pretrained: see `Backbone`; needs a ``name``.
        prefix_tokens_in_windows: what becomes of class token and registers in windows: ``"global"`` tokens see, and are
            seen by, all windows (Longformer, arXiv:2004.05150); ``"copy"`` gives every window its own (RF-DETR);
            ``"drop"`` removes them (EVA-02's detectors). Without windows, all tokens see each other. Like the next
            argument and ``final_norm``, only with a ``name``.
        window_positions: rotary positions in windows: those of the ``"map"``, or of every ``"window"`` as a map of its
            own (EVA-02's detectors). No difference for networks without rotary positions.
        antialias_positions: low-pass position embeddings when they are resized: as in timm, with a ``name``; not in
            Detectron2 and EVA-02's detectors.
        lora: arguments of `fpn_plugins.backbones.add_lora`, such as ``{"rank": 8}``: train low-rank updates instead of
            the weights. Needs peft.
        tile_positions: repeat position embeddings for larger maps instead of resizing them (PE's detectors).
        final_norm: ``False`` leaves out the final norm of a ``name`` that has one (PE's detectors).
        zero_window_padding: pad windows with queries, keys and values of zero (ViT-Adapter), not with tokens of zero,
            which the bias changes (Detectron2); decided by a ``name``.
        feature_cache: see `Backbone`.

    Images can have any size from one patch on; pixels after the last whole patch are ignored (sizes round down, as in
    Detectron2). ``mean`` and ``std`` are those of the ``name``; without one, set them for weights that expect other
    pixels than ImageNet's, as many of timm's own ViTs do (``augreg``, ``orig_in21k``: 0.5).

    State dict: Detectron2's names (``patch_embed.proj``, ``pos_embed``, ``blocks.<i>.*``), with a ``name`` also timm's
    (``cls_token``, ``reg_token``, ``norm``, ...). Without a name, checkpoints of Detectron2's and mmdet's ViTDet, MAE,
    timm's and DeiT's plain ViTs, DINO, DINOv2 without registers and SAM load unchanged, without class tokens and heads;
    see `fpn_plugins.weights.vit.accept_vit_layouts`. To keep position embeddings as they are, set ``pretrain_img_size``
    to the checkpoint's image size; for SAM, ``pretrain_img_size=1024, pretrain_use_cls_token=False``. With a name, see
    `fpn_plugins.weights.foundation_vit.accept_foundation_layouts`.

    Raises:
        ImportError: a ``name`` without timm.
        ValueError: an unknown name or a network with parts that this class does not compute, arguments that only a
            network with a name has, block indices out of range, heads that do not divide ``embed_dim``, an image
            smaller than one patch, or a checkpoint of another architecture (lists keys and shapes).
    """

    misfit_hint = "; networks with registers, rotary positions or gated MLPs are built by their name="

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int | None = None,
        in_chans: int = 3,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
        qkv_bias: bool | None = None,
        drop_path_rate: float = 0.0,
        use_abs_pos: bool | None = None,
        use_rel_pos: bool | None = None,
        window_size: int | None = None,
        global_block_indices: Sequence[int] | None = None,
        residual_block_indices: Sequence[int] = (),
        out_block_indices: Sequence[int] | None = None,
        pretrain_img_size: int | None = None,
        pretrain_use_cls_token: bool | None = None,
        gradient_checkpointing: bool = False,
        frozen_stages: int = -1,
        checkpoint: str | os.PathLike[str] | None = None,
        norm_eps: float | None = None,
        name: str | None = None,
        pretrained: bool | None = False,
        prefix_tokens_in_windows: str = "global",
        window_positions: str = "map",
        antialias_positions: bool | None = None,
        lora: Mapping[str, Any] | None = None,
        tile_positions: bool = False,
        final_norm: bool = True,
        feature_cache: Mapping[str, Any] | None = None,
        zero_window_padding: bool | None = None,
    ) -> None:
        super().__init__()
        positive_ints(img_size=img_size, in_chans=in_chans)
        booleans(gradient_checkpointing=gradient_checkpointing, final_norm=final_norm, tile_positions=tile_positions)
        tokens = {"patch_size": patch_size, "embed_dim": embed_dim, "pretrain_img_size": pretrain_img_size}
        blocks = {"depth": depth, "num_heads": num_heads, "mlp_ratio": mlp_ratio, "norm_eps": norm_eps}
        parts = {"qkv_bias": qkv_bias, "use_abs_pos": use_abs_pos, "use_rel_pos": use_rel_pos}
        parts |= {"pretrain_use_cls_token": pretrain_use_cls_token, "antialias_positions": antialias_positions}
        parts |= {"tile_positions": tile_positions, "zero_window_padding": zero_window_padding}
        design = changed_design(published_design(name), name, **tokens, **blocks, **parts)
        check_side("img_size", img_size, design.patch_size)
        self.name = name
        if name is not None:
            self.mean, self.std = pixel_statistics(name)
            self.misfit_hint = ""
        self.in_chans, self.depth, self.patch_size = in_chans, design.depth, design.patch_size
        outputs = (self.depth - 1,) if out_block_indices is None else out_block_indices
        among = f"among the {self.depth} blocks (0..{self.depth - 1})"
        self.out_block_indices = ascending("out_block_indices", outputs, self.depth, among)
        windows = block_windows(design, window_size, global_block_indices)
        residual_blocks = residual_block_set(design, residual_block_indices)
        chosen = (prefix_tokens_in_windows, window_positions, final_norm)
        self.design, self.layout = choose_layout(design, max(windows), *chosen)
        design = self.design
        self.gradient_checkpointing = gradient_checkpointing
        self.feature_specs = tuple(FeatureSpec(design.embed_dim, self.patch_size) for _ in self.out_block_indices)
        self.patch_embed = PatchEmbedding(self.patch_size, in_chans, design.embed_dim, not design.pre_norm)
        self.cls_token = embedding(int(design.class_token), design.embed_dim)
        self.reg_token = embedding(design.num_registers, design.embed_dim)
        self.pos_embed = embedding(design.num_positions, design.embed_dim)
        self.norm_pre = token_norm(design, design.pre_norm)
        self.blocks, rates = nn.ModuleList(), drop_path_rates(drop_path_rate, self.depth)
        for index in range(self.out_block_indices[-1] + 1):
            block = encoder_block(design, windows[index], img_size, rates[index], index in residual_blocks)
            self.blocks.append(block)
        self.norm = token_norm(design, design.final_norm)
        initialize_linear(self)
        self._accept_layouts()
        self.load_and_freeze(frozen_stages, checkpoint, pretrained, feature_cache)
        if lora is not None:
            add_lora_from(self, lora)

    def _accept_layouts(self) -> None:
        blocks, rows = len(self.blocks), self.design.position_rows
        if self.layout is None:
            accept_vit_layouts(self, vit_layouts(blocks, self.depth), bool(rows))
            return
        accept_foundation_layouts(self, foundation_layouts(blocks, self.depth, self.layout.dropped), rows)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one map ``B C H/patch_size W/patch_size`` per entry of ``feature_specs``."""
        self.check_image(x)
        if min(x.shape[-2:]) < self.patch_size:
            raise ValueError(f"an image of {tuple(x.shape[-2:])} is smaller than one patch of {self.patch_size} pixels")
        tokens, places = self.embed(x)
        maps = []
        for index, block in enumerate(self.blocks):
            tokens = checkpointing.run(block, tokens, *places, checkpointed=self.gradient_checkpointing)
            if index in self.out_block_indices:
                cells = places[0].cells(tokens) if places else tokens
                maps.append(as_map(self.norm(cells), x))
        return self.complete(maps)

    def embed(self, x: Tensor) -> tuple[Tensor, tuple[TokenGrid, ...]]:
        """Return the tokens of images, ``B H W C`` or a sequence ``B N C``, and the further arguments of the blocks."""
        grid = self.patch_embed(x)
        prefix: list[Tensor] = [tokens for tokens in (self.cls_token, self.reg_token) if tokens is not None]
        first = torch.cat(prefix, 1) if prefix else None
        rows = self.design.position_rows
        if self.pos_embed is not None:
            grid = grid + position_map(self.design, self.pos_embed[:, rows:], *grid.shape[1:3])
            first = first + self.pos_embed[:, :rows] if rows and first is not None else first
        if self.layout is None:
            return grid, ()
        tokens, places = self.layout.join(first, grid)
        return self.norm_pre(tokens), (places,)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the blocks after the last read map."""
        del self.blocks[self.out_block_indices[max(kept)] + 1 :]

    def stage_parts(self) -> list[list[Part]]:
        """List the embeddings and tokens, then each block, the last one with the norm of the maps."""
        tokens = [part for part in (self.pos_embed, self.cls_token, self.reg_token) if part is not None]
        stages: list[list[Part]] = [[block] for block in self.blocks]
        stages[-1].append(self.norm)
        return [[self.patch_embed, *tokens, self.norm_pre], *stages]

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the blocks from 1; blocks that are not built count too."""
        return block_layers(self), self.depth + 1


def published_design(name: str | None) -> ViTDesign:
    """Return the design of the network ``name``, or ViTDet's for ``None``; errors are those of `read_vit_design`."""
    return ViTDesign() if name is None else read_vit_design(name)
