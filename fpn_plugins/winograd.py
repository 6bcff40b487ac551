"""3x3 convolutions by Winograd's minimal filtering, for inference on CPUs.

Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, CVPR 2016, arXiv:1509.09308, section 4): tiles of
4 x 4 outputs come from 36 products per pair of channels where a direct convolution needs 144, F(4x4, 3x3). What is
gained is the multiply-adds; what is paid are sums before and behind, which more channels make less of: see
``docs/bench_necks.md`` for what is left on whole necks.

The paper interpolates at 0, 1, -1, 2, -2 and infinity. Here it is 0, 3/4, -3/4, 3/2, -3/2 and infinity: the values in
between are of like size then, which makes the rounding errors a quarter of the paper's, those of a direct convolution
(on the choice of points: Barabasz et al., arXiv:1803.10986).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpointing import traced
from .memory_format import memory_format_of

TILE = 4  # outputs per side
PATCH = TILE + 2  # inputs per side
MIN_CHANNELS = 128  # below, the sums take longer than the products that they save
MIN_TILES = 12
BLOCK = 2_400_000  # numbers in transformed inputs and outputs at a time, so that they stay in a cache
A = 3 / 4  # the interpolation points are 0, A, -A, B, -B and infinity
B = 2 * A


def _kernel_transform() -> tuple[tuple[float, float, float], ...]:
    """``G`` of the paper; A**-3 because outputs are scaled behind, see `convolve`."""
    rows = [(point, 2 * point**2 * (point**2 - other**2)) for point, other in ((A, B), (-A, B), (B, A), (-B, A))]
    products = tuple((1 / n, point / n, point**2 / n) for point, n in rows)
    return ((1 / (A * B) ** 2, 0.0, 0.0), *products, (0.0, 0.0, A**-3))


class _Kernel(NamedTuple):
    """A transformed weight ``36 C_in C_out``, and sum and norm of the weight that it was made from."""

    origin: tuple[float, float]
    values: Tensor


class WinogradConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose 3x3 convolutions take fewer multiplications at inference on a CPU.

    Arguments, parameters, state dict and results are those of ``nn.Conv2d``; results differ by rounding, by less than
    1e-5 of the largest value. Other kernels than 3x3 of stride 1 and padding 1, fewer than 128 channels, other types
    than single precision, maps with less than twelve tiles, autocast, gradients, other devices, and networks that are
    compiled, exported or scripted take PyTorch's own convolution. Channels-last maps are best: others are copied.

    It keeps a transformed copy of its weight, four times as large, made when it is first needed and whenever the weight
    has changed. The attribute ``min_channels`` is the number that it takes at least.

    Use it as a convolution factory: ``FPN(..., conv="winograd")``, or any module of this package that takes ``conv``;
    `use_winograd` changes networks that are built already.
    """

    min_channels: int = MIN_CHANNELS
    _kernel: _Kernel | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` as ``nn.Conv2d`` does."""
        if not self._is_faster(x):
            return super().forward(x)
        return convolve(x, self._transformed(), self.bias)

    def _is_faster(self, x: Tensor) -> bool:
        weight = self.weight
        if traced() or torch.is_autocast_enabled("cpu") or not suits(self, self.min_channels):
            return False
        if x.dim() != 4 or torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return False
        if {x.dtype, weight.dtype} != {torch.float32} or {x.device.type, weight.device.type} != {"cpu"}:
            return False
        return -(-x.shape[-2] // TILE) * -(-x.shape[-1] // TILE) >= MIN_TILES

    def _transformed(self) -> Tensor:
        # by content: PyTorch does not count changes through `.data`, by which averaged weights are exchanged
        weight = self.weight.detach()
        origin = float(weight.sum()), float(weight.norm())
        if self._kernel is None or self._kernel.origin != origin:
            self._kernel = _Kernel(origin, transform_kernel(weight))
        return self._kernel.values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernel": None}  # made again where the copy needs it

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in the place of this module."""
        plain = nn.Conv2d.__new__(nn.Conv2d)
        plain.__dict__.update(self.__getstate__())
        return plain


def suits(conv: nn.Conv2d, min_channels: int) -> bool:
    """Whether a convolution is of the kind, and as wide."""
    kind = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    same = kind == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    return same and min(conv.in_channels, conv.out_channels) >= min_channels


def use_winograd(module: nn.Module, min_channels: int = MIN_CHANNELS) -> int:
    """Turn the plain convolutions of a network that suit into `WinogradConv2d`, with the parameters that they have.

    For whole detectors before inference on a CPU: heads of both toolboxes and backbones of timm have their 3x3
    convolutions as plain ``nn.Conv2d``. Subclasses, such as Detectron2's own ``Conv2d`` in its ResNet, stay as they
    are.

    Args:
        module: the network, changed in place.
        min_channels: convolutions of fewer channels, in or out, stay as they are. Where the gain begins depends on
            the processor.

    Returns:
        The number of convolutions that were turned.

    Raises:
        ValueError: ``min_channels`` below 1.
    """
    if min_channels < 1:
        raise ValueError(f"min_channels={min_channels!r} must be at least 1; 128 is where the gain begins on most CPUs")
    found = [layer for layer in module.modules() if type(layer) is nn.Conv2d and suits(layer, min_channels)]
    for layer in found:
        layer.__class__ = WinogradConv2d  # which has no more state than this
        vars(layer)["min_channels"] = min_channels
    return len(found)


def transform_kernel(weight: Tensor) -> Tensor:
    """``C_out C_in 3 3`` to ``36 C_in C_out``, computed in double precision."""
    g = torch.tensor(_kernel_transform(), dtype=torch.float64)
    products = torch.einsum("ia,ocab,jb->ijco", g, weight.double(), g)
    return products.to(weight.dtype).flatten(0, 1).contiguous()


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``B C_in H W``, padded with zeros, to ``B C_out H W`` in the memory format of ``x``.

    Args:
        x: the map, in single precision.
        kernel: what `transform_kernel` gives.
        bias: ``C_out``, or none.
    """
    batch, channels, height, width = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    out_channels = kernel.shape[-1]
    # B H W C, padded to whole tiles
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + TILE * across - width, 1, 1 + TILE * down - height))
    out = x.new_empty(batch, down, TILE, across, TILE, out_channels)
    rows = max(1, BLOCK // (PATCH**2 * (channels + out_channels) * across))  # of tiles
    for image, result in zip(padded, out, strict=True):
        for top in range(0, down, rows):
            _convolve_rows(image[TILE * top : TILE * (top + rows) + 2], kernel, result[top : top + rows])
    # the points are A times 0, 1, -1, 2, -2, which A^T of the paper is for
    powers = A ** torch.arange(TILE, dtype=x.dtype)
    scale = (powers[:, None] * powers)[:, None, :, None]
    out = out.mul_(scale) if bias is None else torch.addcmul(bias, out, scale, out=out)
    y = out.view(batch, TILE * down, TILE * across, out_channels)[:, :height, :width]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=memory_format_of(x))


def _convolve_rows(x: Tensor, kernel: Tensor, out: Tensor) -> None:
    """Some rows of tiles of one image: ``4 rows + 2, W, C_in`` into ``rows, 4, columns, 4, C_out``."""
    rows, _, columns, _, out_channels = out.shape
    by_row = x.new_empty(PATCH, rows, *x.shape[1:])
    _transform_inputs(_taps(x, 0, rows), by_row)
    patches = x.new_empty(PATCH, PATCH, rows, columns, x.shape[-1])
    _transform_inputs(_taps(by_row, 2, columns), patches.transpose(0, 1))
    products = torch.bmm(patches.view(PATCH**2, rows * columns, -1), kernel)
    products = products.view(PATCH, PATCH, rows, columns, out_channels)
    by_column = x.new_empty(TILE, PATCH, rows, columns, out_channels)
    _transform_outputs(products, by_column)
    _transform_outputs(by_column.transpose(0, 1), out.permute(3, 1, 0, 2, 4))


def _taps(x: Tensor, dim: int, tiles: int) -> list[Tensor]:
    """The first, second, ... sixth input of each tile along a dimension."""
    whole = (slice(None),) * dim
    return [x[whole + (slice(tap, tap + TILE * (tiles - 1) + 1, TILE),)] for tap in range(PATCH)]


def _transform_inputs(x: Sequence[Tensor], out: Tensor) -> None:
    """Six inputs to six, the paper's ``B^T``, into ``out`` of a dimension more."""
    even, odd = torch.sub(x[4], x[2], alpha=B**2), torch.sub(x[3], x[1], alpha=B**2)
    torch.add(even, odd, alpha=A, out=out[1])
    torch.sub(even, odd, alpha=A, out=out[2])
    torch.sub(x[4], x[2], alpha=A**2, out=even)
    torch.sub(x[3], x[1], alpha=A**2, out=odd)
    torch.add(even, odd, alpha=B, out=out[3])
    torch.sub(even, odd, alpha=B, out=out[4])
    torch.sub(x[4], x[2], alpha=A**2 + B**2, out=out[0]).add_(x[0], alpha=(A * B) ** 2)
    torch.sub(x[5], x[3], alpha=A**2 + B**2, out=out[5]).add_(x[1], alpha=(A * B) ** 2)


def _transform_outputs(x: Tensor, out: Tensor) -> None:
    """Six products to four outputs, into ``out``, both along the first dimension.

    ``A^T`` of the paper, for the points 0, 1, -1, 2, -2 and infinity.
    """
    sum_1, difference_1 = x[1] + x[2], x[1] - x[2]
    sum_2, difference_2 = x[3] + x[4], x[3] - x[4]
    torch.add(difference_1, difference_2, alpha=2, out=out[1])
    torch.add(sum_1, sum_2, alpha=4, out=out[2])
    torch.add(sum_1.add_(sum_2), x[0], out=out[0])
    torch.add(difference_1.add_(difference_2, alpha=8), x[5], out=out[3])
