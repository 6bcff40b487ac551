"""MViTv2 for detection: a hierarchical transformer with pooling attention, four maps of stride 4 to 32.

::

    image --conv 7x7 /4--> blocks ... --> C2 /4      windows of 56 cells
                           blocks ... --> C3 /8      windows of 28, the last block over the whole map
                           blocks ... --> C4 /16     windows of 14, the last block over the whole map
                           blocks ... --> C5 /32     windows of 7,  the last block over the whole map

Source: MViTv2 (arXiv:2112.01526), section 4.2 and table 8; detectron2's ``modeling/backbone/mvit.py``. timm's networks
of these names have the same weights and another forward: all of their attention is global, and their images have one
size.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ...features import FeatureSpec
from ...ops import checkpointing
from ...ops.memory_format import memory_format_of
from ...weights import accept_layouts
from ...weights.maps.mvit import mvit_layouts
from ..base import Backbone, check_ascending, check_frozen_stages, check_one_source, initialize_linear
from ..timm.networks import timm_weights
from .blocks import MultiScaleBlock
from .plan import PATCH_STRIDE, find_variant, plan_blocks


class MViT(Backbone):
    """MViTv2 with the forward that its detectors were trained with: image in, tuple of maps out.

    Equal to detectron2's ``MViT`` as its MViTv2 detectors configure it (hybrid window attention, a doubled key stride
    in the last blocks of the second and third stage, a norm after each stage). Differences: no absolute position
    embeddings, which none of them has; stages after the last wanted map are not built.

    Args:
        name: timm model name out of `VARIANTS`, with or without the tag of weights (``"mvitv2_tiny.fb_in1k"``).
        out_indices: which of the maps C2..C5 to return, ascending.
        pretrained: load timm's own weights (downloaded by timm).
        checkpoint: weights file read instead, in the names of detectron2, the official repository (``.pyth``), timm or
            this module; read without executing anything, loaded completely or not at all. Files of classifiers leave
            the norms after the stages as they are.
        in_chans: channels of the image.
        frozen_stages: fix (no gradient, evaluation mode) everything up to and including what computes map
            ``frozen_stages``: 0 is the patch embedding and the first stage. -1 is nothing.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        gradient_checkpointing: recompute activations in the backward pass (less memory, about a third more time).
        window_size: side of the first stage's attention windows, in cells; halves from stage to stage.
        img_size: side of the square images, in pixels, that the tables of relative positions are made for: that of the
            pre-training. On images of any other size they are resized, as in detectron2.
        norm_eps: of the norms; detectron2's configs have 1e-6 (the default of its class is 1e-5).
        embed_dim: channels of the first map; ``None`` is those of ``name``, as with the next two.
        num_heads: heads in the first stage.
        last_block_indices: position of the last block of each stage; the depth is the last plus one.

    Attributes:
        feature_specs: channels and stride of each returned map.

    State dict: ``patch_embed.proj.*``, ``blocks.<i>.*`` (see `MultiScaleBlock`), ``norms.<s>.*``.

    Input: ``B in_chans H W`` of any size, RGB, normalized with ImageNet's mean and standard deviation (`pixel_mean`,
    `pixel_std`).

    Raises:
        ImportError: ``pretrained`` without timm.
        ValueError: unknown name (suggests near names), sizes that do not fit together, positions out of range, or a
            checkpoint of another network (lists the keys; tables of relative positions of another length are made for
            another ``img_size``).
    """

    misfit_hint = "; rel_pos_h and rel_pos_w of another length are made for another img_size"

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        pretrained: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        frozen_stages: int = -1,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        window_size: int = 56,
        img_size: int = 224,
        norm_eps: float = 1e-6,
        embed_dim: int | None = None,
        num_heads: int | None = None,
        last_block_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_one_source(pretrained, checkpoint)
        variant = find_variant(name, embed_dim, num_heads, last_block_indices)
        plans = plan_blocks(variant, window_size, img_size)
        self.name = name
        count = len(variant.last_block_indices)
        strides = ", ".join(f"{stage}: stride {PATCH_STRIDE * 2**stage}" for stage in range(count))
        self.out_indices = check_ascending("out_indices", out_indices, count, f"of the maps ({strides})")
        self.gradient_checkpointing = gradient_checkpointing
        self.last_block_indices = variant.last_block_indices[: self.out_indices[-1] + 1]
        channels = [plans[last].out_channels for last in self.last_block_indices]
        self.feature_specs = tuple(FeatureSpec(channels[i], PATCH_STRIDE * 2**i) for i in self.out_indices)
        patches = nn.Conv2d(in_chans, variant.embed_dim, 7, stride=PATCH_STRIDE, padding=3)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        rates = torch.linspace(0, drop_path_rate, len(plans), device="cpu").tolist()
        used = list(zip(plans, rates, strict=True))[: self.last_block_indices[-1] + 1]
        self.blocks = nn.ModuleList(MultiScaleBlock(plan, rate, norm_eps) for plan, rate in used)
        self.norms = nn.ModuleDict({str(i): nn.LayerNorm(channels[i], norm_eps) for i in self.out_indices})
        initialize_linear(self)
        accept_layouts(self, mvit_layouts(variant.last_block_indices, self.out_indices))
        if pretrained:
            self.load_weights(timm_weights(name), f"of timm's {name!r}")
        elif checkpoint is not None:
            self.load_weights(checkpoint)
        self.frozen_stages = check_frozen_stages(
            frozen_stages, self.out_indices[-1], "the position of a map up to the last wanted,"
        )
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image batch ``B in_chans H W`` to one ``B C H/stride W/stride`` map per entry of ``feature_specs``.

        Sides are rounded up at every halving.
        """
        layout = memory_format_of(x)
        x = self.patch_embed(x).permute(0, 2, 3, 1)  # B H W C
        maps = []
        for index, block in enumerate(self.blocks):
            x = checkpointing.run(block, x, checkpointed=self.gradient_checkpointing)
            stage = self.last_block_indices.index(index) if index in self.last_block_indices else None
            if stage in self.out_indices:
                maps.append(self.norms[str(stage)](x).permute(0, 3, 1, 2).contiguous(memory_format=layout))  # B C H W
        return tuple(maps)

    def frozen_parts(self) -> Iterator[nn.Module]:
        """Everything up to and including what computes map ``frozen_stages``."""
        if self.frozen_stages < 0:
            return
        yield self.patch_embed
        yield from self.blocks[: self.last_block_indices[self.frozen_stages] + 1]
        yield from (self.norms[str(i)] for i in self.out_indices if i <= self.frozen_stages)
