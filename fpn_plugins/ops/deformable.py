"""Deformable convolution, v1 and v2: each tap of the kernel is moved by an offset, and weighted by a modulation.

Sources: Deformable ConvNets v2 (Zhu et al., CVPR 2019, arXiv:1811.11168, section 3.2); v1 is arXiv:1703.06211.
Reference code: mmcv ``ops/modulated_deform_conv.py``.

torchvision's operator computes it. Without torchvision, and in an exported program, the definition does: it samples all
taps with ``grid_sample``, which every runtime of ONNX has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import divisor, positive_ints
from ..compat import exporting

Pair = tuple[int, int]
FAR = 1e6  # cells; beyond every map


def finite(offset: Tensor) -> Tensor:
    """Move taps whose offset is not a number beyond the map, where they weigh nothing.

    torchvision's operator would read memory outside the map.
    """
    return offset.nan_to_num(FAR, FAR, -FAR)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """Compute a deformable convolution; pairs are vertical and horizontal values in cells.

    Args:
        x: ``B C_in H W``.
        offset: ``B 2*G*K h w``, for each of ``G`` groups of channels and each of the kernel's ``K`` taps the movement
            in cells, y before x.
        weight: ``C_out C_in/groups K_h K_w``.
        bias: ``C_out``.
        stride: step of the kernel.
        padding: cells of zeros on each side.
        dilation: step between taps.
        mask: ``B G*K h w``, the factor of each tap (v2); ``None`` for 1 (v1).

    Returns:
        Map ``B C_out h w`` of the offset's dtype, computed in single precision or better.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    bias, mask = (None if tensor is None else tensor.to(dtype) for tensor in (bias, mask))
    arguments = (x.to(dtype), finite(offset.to(dtype)), weight.to(dtype), bias, stride, padding, dilation, mask)
    return _operator()(*arguments).to(offset.dtype)


def _operator() -> Callable[..., Tensor]:
    if not exporting():
        try:
            from torchvision.ops import deform_conv2d as fast
        except ImportError:
            return by_sampling
        return fast
    return by_sampling


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """Return the ``custom_mapping`` with which ``FlopCounterMode`` counts torchvision's operator as a convolution."""
    if _operator() is by_sampling:
        return {}
    return {torch.ops.torchvision.deform_conv2d: _flops}


def _flops(x_shape: Any, w_shape: Any, *unused: Any, out_shape: Any, **more: Any) -> int:
    batch, channels, height, width = out_shape
    return 2 * batch * channels * height * width * w_shape[1] * w_shape[2] * w_shape[3]


def by_sampling(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    mask: Tensor | None,
) -> Tensor:
    """Compute `deform_conv2d` by its definition: sample the map at each tap, bilinearly, and multiply."""
    (batch, channels, height, width), (h, w) = x.shape, offset.shape[-2:]
    taps = weight.shape[2] * weight.shape[3]
    groups = offset.shape[1] // (2 * taps)
    rows, columns = (_positions(offset, weight, axis, stride, padding, dilation) for axis in (0, 1))
    moved = offset.unflatten(1, (groups, taps, 2)).unbind(3)  # y and x, each B G K h w
    y = moved[0] + rows.repeat_interleave(weight.shape[3], 0)[:, :, None]
    x_ = moved[1] + columns.repeat(weight.shape[2], 1)[:, None]
    grid = torch.stack(((2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1), -1)  # B G K h w 2
    maps = x.unflatten(1, (groups, channels // groups)).flatten(0, 1)  # BG C/G H W
    samples = F.grid_sample(maps, grid.flatten(0, 1).flatten(1, 2).to(x.dtype), align_corners=False)
    samples = samples.unflatten(0, (batch, groups)).unflatten(3, (taps, h))  # B G C/G K h w
    if mask is not None:
        samples = samples * mask.unflatten(1, (groups, 1, taps))
    conv_groups = channels // weight.shape[1]
    columns = samples.flatten(1, 3).flatten(2).unflatten(1, (conv_groups, weight.shape[1] * taps))
    out = weight.flatten(1).unflatten(0, (conv_groups, -1)) @ columns
    out = out.flatten(1, 2).unflatten(2, (h, w))
    return out if bias is None else out + bias[:, None, None]


def _positions(offset: Tensor, weight: Tensor, axis: int, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the unmoved positions of the taps on one axis of the map: ``K_axis`` by the cells of the output."""
    cells, taps = (torch.arange(x.shape[2 + axis], device=x.device, dtype=x.dtype) for x in (offset, weight))
    return cells * stride[axis] - padding[axis] + taps[:, None] * dilation[axis]


class ModulatedDeformConv2d(nn.Module):
    """Deformable convolution v2 whose offsets and modulation a convolution of the same kernel predicts from the map.

    It takes the place of ``nn.Conv2d`` in every neck: ``conv=ModulatedDeformConv2d``. It starts as a convolution with
    half of its weights: offsets are 0, and modulations 1/2. Matches mmcv's ``ModulatedDeformConv2dPack`` (``DCNv2``),
    including names, order and initial values of the parameters.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        kernel_size: side of the kernel in cells.
        stride: step in cells.
        padding: cells of zeros on each side.
        dilation: step between taps in cells.
        groups: groups of channels that are convolved separately.
        bias: whether to add a bias.
        offset_groups: groups of input channels with offsets of their own.

    Raises:
        TypeError: an argument that is not an integer.
        ValueError: a number below 1, or groups that do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        offset_groups: int = 1,
    ) -> None:
        super().__init__()
        positive_ints(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size, stride=stride)
        divisor("groups", groups, in_channels, "input channels")
        divisor("groups", groups, out_channels, "output channels")
        divisor("offset_groups", offset_groups, in_channels, "input channels")
        self.in_channels = in_channels
        self.stride, self.padding, self.dilation = (stride,) * 2, (padding,) * 2, (dilation,) * 2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        window: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        self.conv_offset = nn.Conv2d(in_channels, offset_groups * 3 * kernel_size**2, kernel_size, **window)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the initial weights, those of mmcv."""
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)
        bound = (self.in_channels * self.weight[0, 0].numel()) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out h w``, as ``nn.Conv2d`` does."""
        predicted = self.conv_offset(x)
        taps = predicted.shape[1] // 3
        offset, mask = predicted.split((2 * taps, taps), dim=1)
        geometry = (self.stride, self.padding, self.dilation)
        return deform_conv2d(x, offset, self.weight, self.bias, *geometry, mask.sigmoid())
