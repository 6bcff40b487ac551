"""Let convolutions on the image and a plain Vision Transformer exchange what they see: four maps from a plain ViT.

::

    image --stem--> f4 /4 --conv--> f8 /8 --conv--> f16 /16 --conv--> f32 /32      c = cells of f8, f16, f32 + level
    image --patches + positions--> x /16

    x = x + gamma * attention(norm(x), norm(c))        injector     }
    x = blocks(x)                                      of the ViT   }  for each interaction
    c = c + attention(norm(c), norm(x))                extractor    }
    c = c + ffn(norm(c))                                            }

    c3, c4, c5 = norm(maps of c + resized x);  c2 = norm(deconv(map of c at /8) + f4 + resized x)

Source: ViT-Adapter (Chen et al., ICLR 2023, arXiv:2205.08534), whose attention is that of Deformable DETR. Reference
code: ViT-Adapter ``detection/mmdet_custom/models/backbones/vit_adapter.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import ascending, booleans, divisor, mapping, number, positive_int, positive_ints
from ..features import FeatureSpec
from ..layers import NormFactory, check_layers, make_norm
from ..ops import checkpointing
from ..ops.cropping import crop, pad_to_cells
from ..ops.deformable_attention import Sizes, cell_centers
from ..ops.memory_format import as_map
from ..ops.windows import windows_along
from ..weights import redirect_keys
from ..weights.input_channels import accept_color_images
from ..weights.maps import vit_adapter
from .base import Backbone, Part, stage_parts, unread_map
from .build import register_backbone
from .interactions import Extractor, Injector, Interaction, SpatialPrior, grids, initialize
from .layer_numbers import with_prefix
from .sizes import hidden_channels
from .vit.parts import ends_of_quarters
from .vit.sequence import split_cells
from .vit.vit import ViT, published_design

STRIDES = (4, 8, 16, 32)
CELL = STRIDES[-1]
PATCH = 16
# arguments of `ViT` that the adapter decides, and why
DECIDED = {
    "out_block_indices": "follows from interaction_indices",
    "final_norm": "is False, because the adapter reads tokens without it",
    "feature_cache": "would keep maps that the adapter changes",
}


@register_backbone
class ViTAdapter(Backbone):
    """Plain ViT that exchanges with convolutions on the image, as a backbone with the strides 4, 8, 16 and 32.

    Args:
        vit: arguments of `ViT` (``embed_dim``, ``name``, ``checkpoint``, ``window_size``, ...) with a ``patch_size`` of
            16. Without a ``name``, there are no relative positions, and windows are padded as published
            (``zero_window_padding``), by default. ``{"embed_dim": 384, "num_heads": 6, "drop_path_rate": 0.2}`` is
            ViT-Adapter-S.
        interaction_indices: last block of each interaction, ascending; blocks after the last one are not built.
            ``None`` is the last block of each quarter; ``(2, 5, 8, 11)`` is published as ``[[0, 2], [3, 5], ...]``.
        conv_inplane: channels of the first convolutions on the image.
        n_points: points that each head of a cell reads in each map.
        deform_num_heads: heads of injectors and extractors; ``None`` for those of the ViT, as in ViT-Adapter-S, B, L.
        init_values: initial factor of what injectors add; 0 leaves a pre-trained ViT as it is at first.
        with_cffn: whether extractors end in an MLP with a convolution.
        cffn_ratio: its hidden channels over those of a token.
        deform_ratio: channels of the values of injectors and extractors over those of a token; 0.5 in
            ViT-Adapter-B and L.
        use_extra_extractor: whether two more extractors follow the last interaction.
        add_vit_feature: whether the ViT's last map is added to every map.
        norm: norm of the convolutions on the image and of the maps, see `make_norm`; ``"SyncBN"`` is published, of
            which ``"BN"`` differs in distributed training alone.
        gradient_checkpointing: recompute injectors, extractors and the ViT's blocks in the backward pass; for the
            blocks alone, or not for them, use that of ``vit``.
        frozen_stages: see `Backbone`; the stages are those of ``vit``. The adapter is trained always.
        checkpoint: see `Backbone`; the adapter's weights with those of its ViT. For the ViT's alone, use the
            ``checkpoint`` or ``pretrained`` of ``vit``.

    Attributes:
        feature_specs: ``embed_dim`` channels at strides 4, 8, 16 and 32.

    Images can have any size: they are zero-padded on the right and at the bottom to a multiple of 32, and each map is
    cropped to ``ceil(side / stride)``. The published code takes multiples of 32 only. Class token and registers of a
    named ViT pass through its blocks; injectors and extractors see the cells. The stochastic depth of all extractors is
    the ``drop_path_rate`` of the ViT.

    State dict: ``vit.*``, ``prior.*``, ``level_embed``, ``interactions.<i>.{injector,extractors.<j>}.*``, ``up.*``,
    ``norms.<k>.*``. Published names load unchanged, without the prefix ``backbone.``; see
    `fpn_plugins.weights.maps.vit_adapter`. LayerScale of their ViT is folded into its layers, which is exact.

    Raises:
        ValueError: indices that do not ascend or that the ViT does not have, another patch size, heads that do not
            divide the channels, or an argument of ``vit`` that the adapter decides.
    """

    def __init__(
        self,
        vit: Mapping[str, Any],
        interaction_indices: Sequence[int] | None = None,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int | None = None,
        init_values: float = 0.0,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        deform_ratio: float = 1.0,
        use_extra_extractor: bool = True,
        add_vit_feature: bool = True,
        norm: str | NormFactory | None = "BN",
        gradient_checkpointing: bool = False,
        frozen_stages: int = -1,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        positive_ints(conv_inplane=conv_inplane, n_points=n_points)
        booleans(with_cffn=with_cffn, use_extra_extractor=use_extra_extractor, add_vit_feature=add_vit_feature)
        booleans(gradient_checkpointing=gradient_checkpointing)
        check_layers(norm=norm)
        number("init_values", init_values, 0)
        self.vit, self.interaction_indices = build_vit(vit, interaction_indices, gradient_checkpointing)
        self.expect_pixels_of(self.vit)
        self.in_chans, self.gradient_checkpointing = self.vit.in_chans, gradient_checkpointing
        self.add_vit_feature = add_vit_feature
        dim = self.vit.design.embed_dim
        self.feature_specs = tuple(FeatureSpec(dim, stride) for stride in STRIDES)
        self.prior = SpatialPrior(self.vit.in_chans or 3, conv_inplane, dim, norm)
        self.level_embed = nn.Parameter(torch.randn(len(STRIDES) - 1, dim))
        heads = self.vit.design.num_heads if deform_num_heads is None else deform_num_heads
        divisor("deform_num_heads", heads, dim, "channels of a token")
        values = hidden_channels(dim, deform_ratio, "deform_ratio")
        divisor("deform_num_heads", heads, values, f"channels of the values that deform_ratio={deform_ratio} leaves")
        attention = (dim, heads, n_points, values)
        hidden = hidden_channels(dim, cffn_ratio, "cffn_ratio") if with_cffn else 0
        drop_path = float(vit.get("drop_path_rate", 0.0))
        counts = [1] * (len(self.interaction_indices) - 1) + [3 if use_extra_extractor else 1]
        self.interactions = nn.ModuleList(
            Interaction(
                Injector(*attention, init_values), [Extractor(*attention, hidden, drop_path) for _ in range(count)]
            )
            for count in counts
        )
        self.up: nn.Module | None = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.norms = nn.ModuleList(make_norm(norm, dim) or nn.Identity() for _ in STRIDES)
        for part in (self.prior, self.interactions, self.up):
            initialize(part)
        redirect_keys(self, vit_adapter.published())
        accept_color_images(self, ["prior.stem.0.conv.weight"], self.vit.in_chans or 3)
        self.load_and_freeze(frozen_stages, checkpoint)

    def stage_parts(self) -> Sequence[Sequence[Part]]:
        """List the parts of the ViT."""
        return stage_parts(self.vit)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B in_chans H W`` to one ``B embed_dim H/stride W/stride`` map per stride, rounded up."""
        self.check_image(x)
        height, width = x.shape[-2:]
        x = pad_to_cells(x, CELL)
        rows, columns = windows_along(height, CELL), windows_along(width, CELL)
        sizes = [(rows * (CELL // stride), columns * (CELL // stride)) for stride in STRIDES]
        finest, *others = self.prior(x)
        levels = zip(others, self.level_embed, strict=True)
        c = torch.cat([level.flatten(2).transpose(1, 2) + embedding for level, embedding in levels], 1)
        cells, c = self._interact(x, c, sizes[1:])
        found = [as_map(grid, x) for grid in grids(c, sizes[1:])]
        if self.up is not None:
            found.insert(0, self.up(found[0]) + finest)
        whole, maps = as_map(cells.unflatten(1, sizes[2]), x), []
        for position, m in enumerate(found, len(STRIDES) - len(found)):
            stride = STRIDES[position]
            if self.add_vit_feature:
                m = m + (whole if stride == PATCH else F.interpolate(whole, sizes[position], mode="bilinear"))
            maps.append(crop(self.norms[position](m), (windows_along(height, stride), windows_along(width, stride))))
        if self.up is None:
            size = windows_along(height, STRIDES[0]), windows_along(width, STRIDES[0])
            maps.insert(0, unread_map(maps[0], self.feature_specs[0].channels, *size))
        return self.complete(maps)

    def _interact(self, x: Tensor, c: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """Exchange between the image's tokens and the cells ``c`` of maps of ``sizes``; return both kinds of cells."""
        vit_sizes = sizes[1:2]
        vit_centers, centers = cell_centers(vit_sizes, x.device), cell_centers(sizes, x.device)
        tokens, places = self.vit.embed(x)
        prefix, cells = split_cells(tokens, places)
        first = 0
        interaction: Any
        for interaction, last in zip(self.interactions, self.interaction_indices, strict=True):
            cells = self._run(interaction.injector, cells, c, vit_centers, sizes)
            tokens = cells.unflatten(1, vit_sizes[0]) if prefix is None else torch.cat([prefix, cells], 1)
            for block in self.vit.blocks[first : last + 1]:
                tokens = checkpointing.run(block, tokens, *places, checkpointed=self.vit.gradient_checkpointing)
            prefix, cells = split_cells(tokens, places)
            for extractor in interaction.extractors:
                c = self._run(extractor, c, cells, centers, sizes, vit_sizes)
            first = last + 1
        return cells, c

    def _run(self, part: nn.Module, *arguments: Any) -> Tensor:
        return checkpointing.run(part, *arguments, checkpointed=self.gradient_checkpointing)

    def remove_unread(self, kept: frozenset[int]) -> None:
        """Remove the norms of unread maps, and what only the finest map needs; the others exchange with each other."""
        for position in range(len(STRIDES)):
            if position not in kept:
                self.norms[position] = nn.Identity()
        if 0 not in kept:
            self.up, self.prior.projections[0] = None, nn.Identity()

    def parameter_layers(self) -> tuple[dict[str, int], int]:
        """Number the layers of the ViT; the adapter has the full rate, as published."""
        layers, top = self.vit.parameter_layers()
        return with_prefix("vit", layers), top


def build_vit(
    vit: Mapping[str, Any], interaction_indices: Sequence[int] | None, gradient_checkpointing: bool
) -> tuple[ViT, tuple[int, ...]]:
    """Build the ViT of a `ViTAdapter` from arguments of the adapter; return it with the last block of each interaction.

    Raises:
        TypeError: values of other types.
        ValueError: see `ViTAdapter`.
    """
    mapping("vit", vit, '{"embed_dim": 384, "num_heads": 6}')
    for key, reason in DECIDED.items():
        if key in vit:
            raise ValueError(f"vit's {key}={vit[key]!r}: in a ViTAdapter, it {reason}; remove it")
    name, depth = vit.get("name"), vit.get("depth")
    depth = published_design(name).depth if depth is None else positive_int("depth", depth)
    chosen = ends_of_quarters(depth) if interaction_indices is None else interaction_indices
    indices = ascending("interaction_indices", chosen, depth, f"among the ViT's {depth} blocks (0..{depth - 1})")
    published = {"use_rel_pos": False, "zero_window_padding": True} if name is None else {"final_norm": False}
    defaults = {"gradient_checkpointing": gradient_checkpointing, **published}
    built = ViT(**{**defaults, **vit, "out_block_indices": indices[-1:]})
    if built.patch_size != PATCH:
        raise ValueError(
            f"vit's patch_size={built.patch_size} must be {PATCH}, the stride of its map; set it to {PATCH}"
        )
    return built, indices
