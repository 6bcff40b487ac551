"""Swin Transformer for detection: attention in windows that shift from block to block, four resolutions.

::

    image --patches of 4--> stage 0 --merge--> stage 1 --merge--> stage 2 --merge--> stage 3
                            norm /4            norm /8            norm /16           norm /32

Source: Swin Transformer (arXiv:2103.14030), of which this is the first version. The result is that of the code that
every detection checkpoint comes from: the authors' own, mmdet's ``models/backbones/swin.py`` and detectron2's
``modeling/backbone/swin.py``, equal at any size. timm's networks are for classification: where a map is not a multiple
of the window they shift before they pad, and give other values. Swin v2 has no reference for detection to be equal to;
use ``TimmBackbone("swinv2_...", model_args={"strict_img_size": False})``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...features import FeatureSpec
from ...ops.memory_format import memory_format_of
from ...weights import accept_layouts
from ...weights.maps.swin import STAGES, swin_layouts
from ..base import Backbone, check_frozen_stages, check_one_source, initialize_linear
from ..timm.networks import timm_weights
from .blocks import SwinPatchEmbedding, SwinStage
from .sizes import PATCH_SIZE, SwinSize, check_out_indices, check_size, published_size


class Swin(Backbone):
    """Swin Transformer: image in, maps of strides 4, 8, 16, 32 out, each normalized on its own.

    Args:
        name: one of timm's names in ``swin_sizes.MODELS``, with or without the tag of its weights, e.g.
            ``"swin_tiny_patch4_window7_224"`` or ``"swin_base_patch4_window7_224.ms_in22k"``.
        pretrained: load timm's weights of that name (downloaded by timm); needs timm.
        checkpoint: weights file read instead: of the official releases, timm, mmdet or detectron2, or this module's
            own; read without executing anything, loaded completely or not at all. A classifier's file has no norms of
            the maps: they keep their initial values, as in all detection code.
        out_indices: stages whose maps are returned, ascending; stages after the last are left out.
        in_chans: channels of the image.
        frozen_stages: fix (no gradient, evaluation mode) the patch embedding (0) and that many stages, as in mmdet;
            -1 is nothing.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 in the first.
        gradient_checkpointing: compute each block again in the backward pass (less memory, about a third more time).
        output_norms: normalize each returned map; without, the maps are what the stages give.
        embed_dim: channels of the first stage, doubled by each later one; this and the next three override ``name``'s.
        depths: blocks of each of the four stages.
        num_heads: heads of each stage; divide its channels.
        window_size: side of the windows in tokens; tables of relative positions of another window are resized on load.
        mlp_ratio: hidden channels of the MLPs over those of a token.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the attention's scores; ``None`` is ``1 / sqrt(channels of a head)``.
        patch_norm: normalize after the patch embedding and before each merging.
        use_abs_pos: add learned position embeddings (no published network for detection does), bicubically resized.
        pretrain_img_size: side in pixels of the images that these are made for.
        norm_eps: of all norms.

    Attributes:
        feature_specs: channels and stride of each returned map.

    Input: ``B in_chans H W``, RGB, normalized with ImageNet's mean and standard deviation (`pixel_mean`, `pixel_std`),
    of any size; the maps' sides are rounded up at every stage.

    Differences from the reference implementations, none in the result: relative positions' indices and the shifts'
    masks are not in the state dict; the linear layers run on the tokens of the map and on one token of padding, not on
    the padding of every window.
    Position embeddings are resized for other images (detectron2 does so, mmdet adds them as they are and fails).

    State dict: the official names, which are detectron2's.

    Raises:
        ValueError: unknown name (suggests near ones), indices out of range, heads that do not divide the channels, or a
            checkpoint of another architecture (lists keys or shapes).
    """

    def __init__(
        self,
        name: str = "swin_tiny_patch4_window7_224",
        pretrained: bool = False,
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
    ) -> None:
        super().__init__()
        check_one_source(pretrained, checkpoint)
        self.name = name
        published, window = published_size(name)
        window = window if window_size is None else window_size
        size = check_size(
            SwinSize(
                published.embed_dim if embed_dim is None else embed_dim,
                tuple(published.depths if depths is None else depths),
                tuple(published.num_heads if num_heads is None else num_heads),
            ),
            window,
        )
        self.out_indices = check_out_indices(out_indices)
        stages = "0 (the patch embedding) or a number of stages, of those that out_indices needs, up to"
        self.frozen_stages = check_frozen_stages(frozen_stages, self.out_indices[-1] + 1, stages)
        self.gradient_checkpointing = gradient_checkpointing
        self.patch_embed = SwinPatchEmbedding(PATCH_SIZE, in_chans, size.embed_dim, norm_eps if patch_norm else None)
        self.absolute_pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            side = pretrain_img_size // PATCH_SIZE
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, size.embed_dim, side, side))
        # on the CPU, so that a skeleton on the meta device can be built
        rates = iter(torch.linspace(0, drop_path_rate, sum(size.depths), device="cpu").tolist())
        self.layers = nn.ModuleList(
            SwinStage(
                size.embed_dim * 2**stage,
                size.num_heads[stage],
                window,
                drop_paths=[next(rates) for _ in range(size.depths[stage])],
                merge=stage < self.out_indices[-1],
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                patch_norm=patch_norm,
                norm_eps=norm_eps,
            )
            for stage in range(self.out_indices[-1] + 1)
        )
        self.feature_specs = tuple(FeatureSpec(size.embed_dim * 2**i, PATCH_SIZE * 2**i) for i in self.out_indices)
        self.output_norms = output_norms
        if output_norms:
            for stage, spec in zip(self.out_indices, self.feature_specs, strict=True):
                self.add_module(f"norm{stage}", nn.LayerNorm(spec.channels, norm_eps))
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        initialize_linear(self)
        accept_layouts(self, swin_layouts(self.out_indices, output_norms))
        if pretrained:
            self.load_weights(timm_weights(name), f"of timm's {name!r}")
        elif checkpoint is not None:
            self.load_weights(checkpoint)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``."""
        layout = memory_format_of(x)
        tokens = self.patch_embed(x)  # B H W C
        if self.absolute_pos_embed is not None:
            positions = F.interpolate(self.absolute_pos_embed, size=tokens.shape[1:3], mode="bicubic")
            tokens = tokens + positions.permute(0, 2, 3, 1)
        maps = []
        for index, stage in enumerate(self.layers):
            tokens, merged = stage(tokens, self.gradient_checkpointing)
            if index in self.out_indices:
                maps.append(self._output(tokens, index).contiguous(memory_format=layout))
            tokens = merged
        return tuple(maps)

    def _output(self, tokens: Tensor, stage: int) -> Tensor:
        if self.output_norms:
            tokens = self.get_submodule(f"norm{stage}")(tokens)
        return tokens.permute(0, 3, 1, 2)

    def frozen_parts(self) -> Iterator[nn.Module | nn.Parameter]:
        """The patch embedding, and ``frozen_stages`` stages with the norms of their maps."""
        if self.frozen_stages < 0:
            return
        yield self.patch_embed
        if self.absolute_pos_embed is not None:
            yield self.absolute_pos_embed
        yield from self.layers[: self.frozen_stages]
        norms = {f"norm{stage}" for stage in range(self.frozen_stages)}
        yield from (module for name, module in self.named_children() if name in norms)
