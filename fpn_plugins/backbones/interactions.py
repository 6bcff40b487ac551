"""Parts of `ViTAdapter`: convolutions on the image, and the exchange between their cells and a ViT's by attention.

Letters in the shapes: ``B`` batch, ``Q`` cells of the ViT, ``N`` cells of the maps at strides 8, 16 and 32 one after
the other, ``C`` channels of a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import ConvNormAct, NormFactory
from ..ops.deformable_attention import MultiScaleDeformableAttention, Sizes
from ..ops.pooling import MaxPool2d
from .vit.blocks import DropPath

NORM_EPS = 1e-6
# levels that exchange with the ViT: strides 8, 16 and 32
NUM_LEVELS = 3


class SpatialPrior(nn.Module):
    """Convolutions on the image, with a map of ``channels`` at each of the strides 4, 8, 16 and 32.

    Args:
        in_chans: channels of the image.
        width: channels at stride 4; twice as many at stride 8, four times at 16 and 32.
        channels: channels of the maps, which 1x1 convolutions project.
        norm: norm after each convolution with stride, and in the stem, see `make_norm`.

    State dict: ``stem.<k>.{conv,norm}.*``, ``convs.<k>.{conv,norm}.*``, ``projections.<i>.*``.
    """

    def __init__(self, in_chans: int, width: int, channels: int, norm: str | NormFactory | None) -> None:
        super().__init__()
        steps = ((in_chans, 2), (width, 1), (width, 1))
        self.stem = nn.Sequential(*(ConvNormAct(n, width, 3, stride, norm, "relu") for n, stride in steps))
        self.pool = MaxPool2d(3, stride=2, padding=1)
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.convs = nn.ModuleList(
            ConvNormAct(before, after, 3, 2, norm, "relu") for before, after in zip(widths, widths[1:], strict=False)
        )
        self.projections = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images ``B in_chans H W``, of sides that 32 divides, to maps ``B channels H/stride W/stride``."""
        maps = [self.pool(self.stem(x))]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        return [projection(m) for projection, m in zip(self.projections, maps, strict=True)]


class ConvFFN(nn.Module):
    """MLP with a depth-wise 3x3 convolution, over cells of several maps, that shares its weights among the maps.

    State dict: ``fc1.*``, ``dwconv.*``, ``fc2.*``.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        """Map cells ``B N C`` of maps of ``sizes`` to the same shape."""
        convolved = [
            self.dwconv(cells.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) for cells in grids(self.fc1(x), sizes)
        ]
        return self.fc2(self.act(torch.cat(convolved, 1)))


class Injector(nn.Module):
    """Add to the ViT's cells what they read from the maps of the convolutions.

    Args:
        dim: channels of a token.
        num_heads, num_points, value_channels: see `MultiScaleDeformableAttention`.
        init_values: initial factor of the channels of what is added.

    State dict: ``query_norm.*``, ``feat_norm.*``, ``attn.*``, ``gamma``.
    """

    def __init__(self, dim: int, num_heads: int, num_points: int, value_channels: int, init_values: float) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = (nn.LayerNorm(dim, NORM_EPS) for _ in range(2))
        self.attn = MultiScaleDeformableAttention(dim, num_heads, NUM_LEVELS, num_points, value_channels)
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, x: Tensor, c: Tensor, centers: Tensor, sizes: Sizes) -> Tensor:
        """Map the ViT's cells ``B Q C`` to the same shape.

        Args:
            x: cells of the ViT.
            c: ``B N C``, cells of the maps.
            centers: ``Q 2``, places of the ViT's cells, see `cell_centers`.
            sizes: height and width of each map in cells.
        """
        return x + self.gamma * self.attn(self.query_norm(x), self.feat_norm(c), centers, sizes)


class Extractor(nn.Module):
    """Add to the cells of the maps what they read from the ViT's, then what an MLP makes of it.

    Args:
        dim: channels of a token.
        num_heads, num_points, value_channels: see `MultiScaleDeformableAttention`.
        hidden_dim: hidden channels of the `ConvFFN`; 0 leaves it out.
        drop_path: probability of dropping the branch of the `ConvFFN` in training.

    State dict: ``query_norm.*``, ``feat_norm.*``, ``attn.*``, ``ffn.*``, ``ffn_norm.*``.
    """

    def __init__(
        self, dim: int, num_heads: int, num_points: int, value_channels: int, hidden_dim: int, drop_path: float
    ) -> None:
        super().__init__()
        self.query_norm, self.feat_norm = (nn.LayerNorm(dim, NORM_EPS) for _ in range(2))
        self.attn = MultiScaleDeformableAttention(dim, num_heads, 1, num_points, value_channels)
        self.ffn = ConvFFN(dim, hidden_dim) if hidden_dim else None
        self.ffn_norm = nn.LayerNorm(dim, NORM_EPS) if hidden_dim else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, c: Tensor, x: Tensor, centers: Tensor, sizes: Sizes, vit_sizes: Sizes) -> Tensor:
        """Map the cells of the maps ``B N C`` to the same shape.

        Args:
            c: cells of the maps.
            x: ``B Q C``, cells of the ViT.
            centers: ``N 2``, places of the maps' cells, see `cell_centers`.
            sizes: height and width of each map in cells.
            vit_sizes: likewise of the ViT's map alone.
        """
        c = c + self.attn(self.query_norm(c), self.feat_norm(x), centers, vit_sizes)
        if self.ffn is not None:
            c = c + self.drop_path(self.ffn(self.ffn_norm(c), sizes))
        return c


class Interaction(nn.Module):
    """Injector before, and extractors after, some blocks of the ViT."""

    def __init__(self, injector: Injector, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.injector = injector
        self.extractors = nn.ModuleList(extractors)


def grids(cells: Tensor, sizes: Sizes) -> list[Tensor]:
    """Split the cells of several maps, ``B N C`` one map after the other, to ``B H W C`` each."""
    parts = cells.split([height * width for height, width in sizes], 1)
    return [part.unflatten(1, (height, width)) for part, (height, width) in zip(parts, sizes, strict=True)]


def initialize(module: nn.Module) -> None:
    """Initialize as published: convolutions and linear layers, then each attention as it does itself."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, MultiScaleDeformableAttention):
            layer.init_weights()
