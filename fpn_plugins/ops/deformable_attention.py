"""Multi-scale deformable attention in plain PyTorch, on ``grid_sample``.

Deformable DETR (Zhu et al., arXiv:2010.04159, section 4.1, equation 3). Each query reads a few points of each level, at
offsets from its own place that it computes itself, and adds what it reads with weights that it computes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import divisor, positive_int

Sizes = Sequence[tuple[int, int]]


def deformable_attention(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sample maps at the locations of each query, and add the samples with the weights.

    Equals mmcv's ``multi_scale_deformable_attn`` (``ops/multi_scale_deform_attn.py``) on every device, without a
    compiled operator; it computes in float32 at least.

    Args:
        value: ``B N H D``, the cells of all levels one after the other, ``N`` in all, with ``H`` heads.
        sizes: height and width of each level in cells.
        locations: ``B Q H L P 2``, x and y of ``P`` points in each of ``L`` levels, from 0 to 1 over the map.
        weights: ``B Q H L P``.

    Returns:
        ``B Q H*D`` in the type of ``value``. Points outside a map read zeros.
    """
    batch, _, heads, depth = value.shape
    wide = torch.promote_types(value.dtype, torch.float32)
    grids = 2 * locations.to(wide) - 1
    result = value.new_zeros((), dtype=wide)
    levels = value.split([height * width for height, width in sizes], 1)
    for level, (cells, (height, width)) in enumerate(zip(levels, sizes, strict=True)):
        image = cells.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width).to(wide)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)  # B*H Q P 2
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]  # B*H 1 Q P
        result = result + (sampled * share.to(wide)).sum(-1)
    return result.reshape(batch, heads * depth, locations.shape[1]).transpose(1, 2).to(value.dtype)


class MultiScaleDeformableAttention(nn.Module):
    """Attention to the cells of one or several maps by deformable sampling.

    Equals mmcv's ``MultiScaleDeformableAttention`` without its residual connection, and has its parameters.

    Args:
        channels: channels of queries, values and results.
        num_heads: heads; they divide ``channels``.
        num_levels: number of maps.
        num_points: points that each head of a query reads in each map.
        value_channels: channels of the projected values, which ``num_heads`` divides; ``None`` for ``channels``.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
        value_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = divisor("num_heads", num_heads, positive_int("channels", channels), "channels")
        self.num_levels = positive_int("num_levels", num_levels)
        self.num_points = positive_int("num_points", num_points)
        width = channels if value_channels is None else positive_int("value_channels", value_channels)
        divisor("num_heads", num_heads, width, "channels of the values")
        points = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(channels, 2 * points)
        self.attention_weights = nn.Linear(channels, points)
        self.value_proj = nn.Linear(channels, width)
        self.output_proj = nn.Linear(width, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Let each head look in a direction of its own, at one cell for the first point, two for the second, ..."""
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2.0 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1.0, self.num_points + 1)
        offsets = (directions[:, None, None] * steps[:, None]).expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        for weight in (self.sampling_offsets.weight, *self.attention_weights.parameters()):
            nn.init.zeros_(weight)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
        """Attend.

        Args:
            query: ``B Q C``.
            value: ``B N C``, the cells of all maps one after the other.
            reference: ``Q 2``, x and y of each query, from 0 to 1.
            sizes: height and width of each map in cells.

        Returns:
            ``B Q C``.
        """
        shape = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*shape, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        steps = [
            torch.stack((offsets[:, :, :, level, :, 0] / width, offsets[:, :, :, level, :, 1] / height), -1)
            for level, (height, width) in enumerate(sizes)
        ]
        locations = reference[None, :, None, None, None] + torch.stack(steps, 3)
        cells = self.value_proj(value).unflatten(-1, (self.num_heads, -1))
        return self.output_proj(deformable_attention(cells, sizes, locations, weights.unflatten(-1, shape[1:])))


def cell_centers(sizes: Sizes, device: torch.device) -> Tensor:
    """X and y of the centers of the cells of all maps, one after the other, from 0 to 1: ``N 2``, float32."""
    centers = []
    for height, width in sizes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        centers.append(torch.stack((x[None].expand(height, -1), y[:, None].expand(-1, width)), -1).flatten(0, 1))
    return torch.cat(centers)


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Sine and cosine of the place of each cell: ``channels height width``, float32, y first, then x.

    Places run from 0 to 2 pi over the map, as in DETR (arXiv:2005.12872) and mmdet's ``SinePositionalEncoding`` with
    ``normalize=True``.
    """
    half = channels // 2
    exponents = torch.arange(half, device=device, dtype=torch.float32)
    periods = 10000 ** (2 * torch.div(exponents, 2, rounding_mode="floor") / half)
    encoded = []
    for side in (height, width):
        places = torch.arange(1, side + 1, device=device, dtype=torch.float32) / (side + 1e-6) * (2 * math.pi)
        angles = places[:, None] / periods
        encoded.append(torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), 2).flatten(1))
    y = encoded[0].transpose(0, 1)[:, :, None].expand(-1, -1, width)
    x = encoded[1].transpose(0, 1)[:, None].expand(-1, height, -1)
    return torch.cat((y, x))
