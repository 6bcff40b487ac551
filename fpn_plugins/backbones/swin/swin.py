"""Swin Transformer for detection: attention in windows that shift from block to block, four resolutions.

::

    image --patches of 4--> stage 0 --merge--> stage 1 --merge--> stage 2 --merge--> stage 3
                            norm /4            norm /8            norm /16           norm /32

    x = x + attention(norm(x), windows);  x = x + mlp(norm(x))     for each block; every other block shifts its windows

Source: Swin Transformer (arXiv:2103.14030), version 1. At any image size, outputs match the code that all detection
checkpoints come from: the authors' own, mmdet's ``models/backbones/swin.py`` and Detectron2's
``modeling/backbone/swin.py``. timm's networks are for classification: if a map is not a multiple of the window, they
shift before they pad and return other values. Swin v2 has no reference for detection; use
``TimmBackbone("swinv2_...", model_args={"strict_img_size": False})``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import ascending, boolean, booleans, integer, integers, positive_int, positive_ints, positive_number
from ...features import FeatureSpec
from ...ops.memory_format import as_map
from ...weights import accept_layouts
from ...weights.input_channels import accept_color_images
from ...weights.maps.swin import STAGES, swin_layouts
from ...weights.shapes import refuse_other_shapes
from ..base import Backbone, Part
from ..build import register_backbone
from ..sizes import drop_path_rates, hidden_channels, initialize_linear, published_size
from ..vit.blocks import EncoderBlock, mlp
from .blocks import PatchMerging, SwinPatchEmbedding, SwinStage
from .window_attention import TABLE, WindowAttention

PATCH_SIZE = 4  # pixels
STRIDES = tuple(PATCH_SIZE * 2**stage for stage in range(STAGES))


class SwinSize(NamedTuple):
    """Channels of the first stage, blocks and heads of each stage, and side of the windows in tokens."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int


# arXiv:2103.14030, section 3.3, under timm's names; heads have 32 channels
MODELS = {
    "swin_tiny_patch4_window7_224": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_small_patch4_window7_224": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_base_patch4_window7_224": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "swin_large_patch4_window7_224": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), 7),
    "swin_base_patch4_window12_384": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_large_patch4_window12_384": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


@register_backbone
class Swin(Backbone):
    """Swin Transformer, whose maps have strides 4, 8, 16 and 32, each with its own norm.

    Args:
        name: timm's name, one of `MODELS`, with or without the tag of its weights, e.g.,
            ``"swin_tiny_patch4_window7_224"`` or ``"swin_base_patch4_window7_224.ms_in22k"``.
        pretrained, in_chans, drop_path_rate, gradient_checkpointing, feature_cache: see `Backbone`.
        checkpoint: see `Backbone`; in the layout of the official releases, timm, mmdet, Detectron2 or this module.
            Classifiers have no norms of the maps; these keep their initial values, as in all detection code.
        out_indices: stages whose maps are returned, ascending; stages after the last one are not built.
        frozen_stages: see `Backbone`; the stem is the patch and position embeddings; a stage includes the norm of its
            map. Same as in mmdet.
        output_norms: whether each returned map is normalized.
        embed_dim: channels of the first stage, doubled by each later stage; this and the next three override the size
            of ``name``.
        depths: blocks of each of the four stages.
        num_heads: heads of each stage; divide its channels.
        window_size: side of the windows in tokens; on load, tables of relative positions are resized to it.
        mlp_ratio: hidden channels of the MLPs over the channels of a token.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the attention scores; ``None`` is ``1 / sqrt(channels of a head)``.
        patch_norm: normalize after the patch embedding.
        merging_norm: normalize before each merging; ``None`` is the value of ``patch_norm``, as in mmdet. The official
            code and Detectron2 always do: their ``patch_norm=False`` is ``patch_norm=False, merging_norm=True``.
        use_abs_pos: add learned position embeddings (no published detection network does), bicubically resized.
        pretrain_img_size: side in pixels of the images that the position embeddings are made for.
        norm_eps: epsilon of all norms.

    Images can have any size; sides of maps are rounded up at every stage.

    Difference from the reference implementations, without effect on the outputs: linear layers run on the tokens of the
    map and on one padding token, not on the padding of every window. Position embeddings are resized for other images,
    as in Detectron2; mmdet fails on such images.

    State dict: the official names, which are also Detectron2's, without indices of relative positions and masks.

    Raises:
        ImportError: ``pretrained`` without timm.
        ValueError: unknown name (suggests similar names), indices out of range, heads that do not divide the channels,
            or a checkpoint of another architecture (lists keys or shapes).
    """

    misfit_hint = "; for patch_norm=False of Detectron2 or the official code, also set merging_norm=True"

    def __init__(
        self,
        name: str = "swin_tiny_patch4_window7_224",
        pretrained: bool | None = False,
        checkpoint: str | os.PathLike[str] | None = None,
        out_indices: Sequence[int] = tuple(range(STAGES)),
        in_chans: int = 3,
        frozen_stages: int = -1,
        drop_path_rate: float = 0.2,
        gradient_checkpointing: bool = False,
        output_norms: bool = True,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        use_abs_pos: bool = False,
        pretrain_img_size: int = 224,
        norm_eps: float = 1e-5,
        merging_norm: bool | None = None,
        feature_cache: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        positive_ints(in_chans=in_chans, pretrain_img_size=pretrain_img_size)
        booleans(gradient_checkpointing=gradient_checkpointing, output_norms=output_norms, qkv_bias=qkv_bias)
        booleans(patch_norm=patch_norm, use_abs_pos=use_abs_pos)
        positive_number("norm_eps", norm_eps)
        if qk_scale is not None:
            positive_number("qk_scale", qk_scale)
        self.name, self.in_chans = name, in_chans
        given = {"embed_dim": embed_dim, "depths": depths, "num_heads": num_heads, "window_size": window_size}
        size = _check_size(published_size(name, MODELS, **given))
        integer("pretrain_img_size", pretrain_img_size, PATCH_SIZE)
        table = ", ".join(f"{stage}: stride {stride}" for stage, stride in enumerate(STRIDES))
        self.out_indices = ascending("out_indices", out_indices, STAGES, f"of the stages ({table})")
        self.depths = size.depths
        self.gradient_checkpointing = gradient_checkpointing
        self.output_norms = output_norms
        self.normed_stages = self.out_indices if output_norms else ()
        channels = [size.embed_dim * 2**stage for stage in range(STAGES)]
        self.feature_specs = tuple(FeatureSpec(channels[i], STRIDES[i]) for i in self.out_indices)
        self.patch_embed = SwinPatchEmbedding(PATCH_SIZE, in_chans, size.embed_dim, norm_eps if patch_norm else None)
        self.absolute_pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            side = pretrain_img_size // PATCH_SIZE
            positions = nn.init.trunc_normal_(torch.empty(1, size.embed_dim, side, side), std=0.02)
            self.absolute_pos_embed = nn.Parameter(positions)
        normalize = patch_norm if merging_norm is None else boolean("merging_norm", merging_norm)
        merging_eps = norm_eps if normalize else None
        rates = iter(drop_path_rates(drop_path_rate, sum(size.depths)))
        self.layers = nn.ModuleList()
        for stage in range(self.out_indices[-1] + 1):
            dim, blocks = channels[stage], []
            for _ in range(size.depths[stage]):
                attention = WindowAttention(dim, size.num_heads[stage], size.window_size, qkv_bias, qk_scale)
                feed_forward = mlp(dim, hidden_channels(dim, mlp_ratio))
                blocks.append(EncoderBlock(dim, attention, feed_forward, next(rates), norm_eps))
            merging = PatchMerging(dim, merging_eps) if stage < self.out_indices[-1] else None
            self.layers.append(SwinStage(blocks, size.window_size, merging))
        for stage in self.normed_stages:
            self.add_module(f"norm{stage}", nn.LayerNorm(channels[stage], norm_eps))
        initialize_linear(self)
        accept_layouts(self, swin_layouts(self.out_indices, output_norms))
        accept_color_images(self, ["patch_embed.proj.weight"], in_chans)
        remedy = "Build the network as it was trained (name, embed_dim, num_heads, pretrain_img_size, in_chans)"
        refuse_other_shapes(self, remedy, exempt=[TABLE])
        self.load_and_freeze(frozen_stages, checkpoint, pretrained, feature_cache)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``."""
        self.check_image(x)
        tokens = self.patch_embed(x)  # B H W C
        if self.absolute_pos_embed is not None:
            positions = F.interpolate(self.absolute_pos_embed, size=tokens.shape[1:3], mode="bicubic")
            tokens = tokens + positions.permute(0, 2, 3, 1)
        maps = []
        for index, stage in enumerate(self.layers):
            tokens, merged = stage(tokens, self.gradient_checkpointing)
            if index in self.out_indices:
                normed = self.get_submodule(f"norm{index}")(tokens) if index in self.normed_stages else tokens
                maps.append(as_map(normed, x))
            tokens = merged
        return self.complete(maps)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the norms of unread maps, and the stages after the last read map."""
        read = [self.out_indices[position] for position in sorted(kept)]
        del self.layers[read[-1] + 1 :]
        last: Any = self.layers[-1]
        last.downsample = None
        for stage in set(self.normed_stages) - set(read):
            delattr(self, f"norm{stage}")
        self.normed_stages = tuple(stage for stage in self.normed_stages if stage in read)

    def stage_parts(self) -> list[list[Part]]:
        """List the embeddings, then each stage with the norm of its map."""
        parts: list[list[Part]] = [[self.patch_embed]]
        if self.absolute_pos_embed is not None:
            parts[0].append(self.absolute_pos_embed)
        norms = dict(self.named_children())
        for index, stage in enumerate(self.layers):
            parts.append([stage, *(norms[name] for name in [f"norm{index}"] if name in norms)])
        return parts

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the blocks of all stages from 1; merging belongs to the first block after it, as in timm."""
        first = [1 + sum(self.depths[:stage]) for stage in range(STAGES + 1)]
        layers = {name: 0 for name, _ in self.named_parameters() if name.startswith(("patch_embed.", "absolute_pos"))}
        for stage, layer in enumerate(self.layers):
            for name, _ in layer.named_parameters():
                part, index, *_ = name.split(".")
                number = first[stage] + int(index) if part == "blocks" else first[stage + 1]
                layers[f"layers.{stage}.{name}"] = number
        return layers, first[-1]


def _check_size(size: SwinSize) -> SwinSize:
    positive_int("embed_dim", size.embed_dim)
    for argument in ("depths", "num_heads"):
        values = integers(argument, getattr(size, argument))
        if len(values) != STAGES or min(values) < 1:
            raise ValueError(f"{argument}={list(values)} must be {STAGES} numbers of at least 1, one per stage")
    if integer("window_size", size.window_size) < 2:
        raise ValueError(f"window_size={size.window_size} must be at least 2 tokens, so that windows can shift")
    return size
