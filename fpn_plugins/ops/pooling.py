"""Pooling: fast for inference on a CPU, and compiled or exported as one graph for all sizes.

PyTorch's CPU kernel processes NCHW maps cell by cell; the maximum of shifted slices processes many cells at a time.
Time of whole necks at inference relative to ``F.max_pool2d``, lower is better: BiFPN 0.85, NASFPN 0.89, BFP 0.67
(320 x 480, AMD EPYC with AVX-512, 1 thread; ``python tools/benchmarks/choices.py --threads 1``). Training and
channels-last maps use PyTorch's kernel.

``torch.compile`` and ``torch.export`` would make a graph per remainder of a side and the stride, per size of a window
and per size of an adaptively pooled map. The forms below for compiled code avoid all three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import compiling
from .memory_format import is_channels_last
from .tracing import traced

Pair = tuple[int, int]


def max_pool2d(x: Tensor, kernel: Pair, stride: Pair, padding: Pair = (0, 0), ceil_mode: bool = False) -> Tensor:
    """Compute ``F.max_pool2d``, exactly; arguments are pairs of vertical and horizontal values.

    Args:
        x: ``B C h w``.
        kernel: sides of a window in cells.
        stride: steps between windows.
        padding: cells of minus infinity on each side; at most half a window.
        ceil_mode: whether the last window can extend past the end.
    """
    if compiling():
        return F.max_pool2d(_whole_windows(x, kernel, stride, padding, ceil_mode), kernel, stride)
    differentiated = torch.is_grad_enabled() and x.requires_grad
    if x.device.type != "cpu" or differentiated or traced() or is_channels_last(x):
        return F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    for dim in (0, 1):  # vertically first, which compares whole rows and leaves fewer rows for the second pass
        x = _maximum_along(x, dim - 2, kernel[dim], stride[dim], padding[dim], ceil_mode)
    return x


def _whole_windows(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Tensor:
    """Pad or crop a map to the cells that the windows cover, so that no remainder depends on its size."""
    pads: list[int] = []
    for axis in (1, 0):
        length, width, step, pad = x.shape[axis - 2], kernel[axis], stride[axis], padding[axis]
        windows = (length + 2 * pad - width + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and pad + step > width:  # no window starts after the end
            windows = torch.sym_min(windows, (length + pad - 1) // step + 1)
        pads += [pad, (windows - 1) * step + width - length - pad]  # negative where cells are left over
    return F.pad(x, pads, value=-math.inf)


def avg_pool2d(x: Tensor, kernel: Pair) -> Tensor:
    """Compute ``F.avg_pool2d(x, kernel)``: ``B C h w`` to ``B C h/kernel w/kernel``, rounded down."""
    if compiling():
        x = _whole_windows(x, kernel, kernel, (0, 0), ceil_mode=False)
    return F.avg_pool2d(x, kernel, kernel)


def max_pool_blocks(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Take the maximum over equal blocks, as mmcv's merging cells do.

    If ``size`` does not divide the map, the map is padded with zeros until it does, half of them (rounded down) at the
    top and left, so a negative maximum at the border becomes zero.

    Args:
        x: ``B C h w``.
        size: ``(H, W)``, not larger than ``(h, w)``.
    """
    kernel = (x.shape[-2] + size[0] - 1) // size[0], (x.shape[-1] + size[1] - 1) // size[1]
    down, right = kernel[0] * size[0] - x.shape[-2], kernel[1] * size[1] - x.shape[-1]
    compiled = compiling()
    if compiled or down or right:
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    if compiled:
        return x.unflatten(-1, (size[1], kernel[1])).amax(-1).unflatten(-2, (size[0], kernel[0])).amax(-2)
    return max_pool2d(x, kernel, kernel)


def adaptive_max_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Compute ``F.adaptive_max_pool2d``, exactly: ``B C h w`` to ``B C H W`` with ``(H, W) = size``."""
    if torch.jit.is_scripting():
        return F.adaptive_max_pool2d(x, size)
    else:  # noqa: RET505 TorchScript compiles what follows a return
        return _adaptive_max_pool2d(x, size)


def _adaptive_max_pool2d(x: Tensor, size: tuple[int, int]) -> Tensor:
    if compiling():
        return _adaptive_along(_adaptive_along(x, -2, size[0]), -1, size[1])
    height, width = x.shape[-2:]
    if torch.jit.is_tracing() or height % size[0] or width % size[1]:
        return F.adaptive_max_pool2d(x, size)
    blocks = height // size[0], width // size[1]
    return max_pool2d(x, blocks, blocks)


def _adaptive_along(x: Tensor, dim: int, windows: int) -> Tensor:
    """Gather the cells of each window, repeating the last one in those that are shorter, and reduce them."""
    length = x.shape[dim]
    window = torch.arange(windows, device=x.device)
    first = window * length // windows
    last = ((window + 1) * length - 1) // windows
    longest = (length - 1) // windows + 2
    cells = (first[:, None] + torch.arange(longest, device=x.device)).minimum(last[:, None])
    return x.index_select(dim, cells.flatten()).unflatten(dim, (windows, longest)).amax(dim)


class MaxPool2d(nn.MaxPool2d):
    """``nn.MaxPool2d`` that compiles and exports as one graph for all sizes; without dilation and indices."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C h w`` to ``B C H W``."""
        if not torch.jit.is_scripting() and compiling():
            window = _pair(self.kernel_size), _pair(self.stride), _pair(self.padding)
            return max_pool2d(x, *window, self.ceil_mode)
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)


class HalvingAvgPool2d(nn.AvgPool2d):
    """``nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)``, in one graph for all sizes."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C h w`` to ``B C ceil(h / 2) ceil(w / 2)``."""
        if not torch.jit.is_scripting() and compiling():
            height, width = x.shape[-2:]
            pads = (0, (width + 1) // 2 * 2 - width, 0, (height + 1) // 2 * 2 - height)
            return F.avg_pool2d(F.pad(x, pads, mode="replicate"), 2, 2)  # an odd cell is the mean of it and its copy
        return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


def make_traceable(network: nn.Module) -> None:
    """Let the pooling layers inside ``network`` compile and export as one graph for all sizes; eager is unchanged."""
    for layer in network.modules():
        if type(layer) is nn.MaxPool2d and not layer.return_indices and _pair(layer.dilation) == (1, 1):
            layer.__class__ = MaxPool2d
        elif type(layer) is nn.AvgPool2d and layer.ceil_mode and not layer.count_include_pad:
            window = (_pair(value) for value in (layer.kernel_size, layer.stride, layer.padding))
            if tuple(window) == ((2, 2), (2, 2), (0, 0)) and layer.divisor_override is None:
                layer.__class__ = HalvingAvgPool2d


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def _maximum_along(x: Tensor, dim: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> Tensor:
    length = x.shape[dim]
    steps = (length + 2 * padding - kernel + (stride - 1 if ceil_mode else 0)) // stride
    windows = min(steps, (length + padding - 1) // stride) + 1  # none starts after the end
    shifts = list(_shifts(length, kernel, stride, padding, windows))
    shape = list(x.shape)
    shape[dim] = windows
    out = x.new_empty(shape)
    whole = next((shift for shift in shifts if shift[0] == slice(0, windows)), None)
    if whole is None:
        out.fill_(-math.inf)
    else:  # this cell of the window is inside the map for every window
        shifts.remove(whole)
        out.copy_(_slice(x, dim, whole[1]))
    for cells, source in shifts:
        place = _slice(out, dim, cells)
        torch.maximum(place, _slice(x, dim, source), out=place)
    return out


def _slice(x: Tensor, dim: int, part: slice) -> Tensor:
    return x[..., part, :] if dim == -2 else x[..., part]


def _shifts(length: int, kernel: int, stride: int, padding: int, windows: int) -> Iterator[tuple[slice, slice]]:
    """For each cell of a window, yield the windows in which it is inside the map, and its positions in the map."""
    for offset in range(-padding, kernel - padding):
        first = max(0, -(offset // stride))
        last = min(windows, (length - 1 - offset) // stride + 1)
        if first < last:
            yield slice(first, last), slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)
