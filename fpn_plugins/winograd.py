"""3x3 convolutions by Winograd's minimal filtering, for CPUs.

Fast Algorithms for Convolutional Neural Networks (Lavin and Gray, CVPR 2016, arXiv:1509.09308, section 4): tiles of
4 x 4 outputs come from 36 products per pair of channels where a direct convolution needs 144, F(4x4, 3x3). What is
gained is the multiply-adds; what is paid are sums before and behind, which more channels make less of: see
``docs/bench_necks.md`` for what is left on whole necks. The arithmetic is in ``winograd_transforms.py``.

The paper interpolates at 0, 1, -1, 2, -2 and infinity. Here it is 0, 3/4, -3/4, 3/2, -3/2 and infinity: the values in
between are of like size then, which makes the rounding errors a quarter of the paper's, those of a direct convolution
(on the choice of points: Barabasz et al., arXiv:1803.10986).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .ops.tracing import traced
from .winograd_transforms import convolve, tiles, transform_kernel, turned, weight_gradient

MIN_CHANNELS = 128  # below, the sums take longer than the products that they save
MIN_TILES = 12  # of all images
MIN_TILES_TRAINING = 36  # where the kernels are transformed in each step
MIN_OUTPUTS = 7  # of a tile's sixteen, on average: those beyond the edges are computed for nothing


class _Kernel(NamedTuple):
    """A transformed weight ``36 C_in C_out``, and a copy of the weight that it was made from."""

    origin: Tensor
    values: Tensor


class _Convolution(torch.autograd.Function):
    """`convolve` with gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolve(x, transform_kernel(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):  # which may be on again where the user goes back
            return (
                convolve(gradient, transform_kernel(turned(weight)), None) if of_x else None,
                weight_gradient(x, gradient) if of_weight else None,
                gradient.sum((0, 2, 3)) if of_bias else None,
            )


class WinogradConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose 3x3 convolutions take fewer multiplications on a CPU, forward and backward.

    Arguments, parameters, state dict and results are those of ``nn.Conv2d``; results and gradients differ by rounding,
    by less than 1e-5 of the largest value. Other kernels than 3x3 of stride 1 and padding 1, fewer than 128 channels,
    other types than single precision, maps with less than twelve tiles together (36 in training) or of few cells each
    (5 x 5), autocast, other devices, the transforms of ``torch.func``, and networks that are traced, compiled, exported
    or scripted take PyTorch's own. Channels-last maps are best: others are copied. Gradients are first ones, backward:
    to differentiate them, or forward, is an error.

    Where no gradient is wanted it keeps a copy of its weight and a transformed one, four times as large, made when they
    are first needed and whenever the weight has changed, until gradients are wanted; then there is one for the time of
    each pass. The attribute ``min_channels`` is the number of channels that it takes at least.

    Use it as a convolution factory: ``FPN(..., conv="winograd")``, or any module of this package that takes ``conv``;
    `use_winograd` changes networks that are built already.
    """

    min_channels: int = MIN_CHANNELS
    plain: type[nn.Conv2d] = nn.Conv2d  # what is scripted in its place
    _kernel: _Kernel | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` as ``nn.Conv2d`` does."""
        y = self.convolved(x)
        return super().forward(x) if y is None else y

    def convolved(self, x: Tensor) -> Tensor | None:
        """The result, where it is computed so; ``None`` where it is PyTorch's affair."""
        if not self._can(x):
            return None
        used = (x, self.weight, self.bias)
        gradients = torch.is_grad_enabled() and any(y is not None and y.requires_grad for y in used)
        if not _pays(x, MIN_TILES_TRAINING if gradients else MIN_TILES):
            return None
        if gradients:
            self._kernel = None  # the weight is about to change
            return _Convolution.apply(x, self.weight, self.bias)
        return convolve(x, self._transformed(), self.bias)

    def _can(self, x: Tensor) -> bool:
        if type(x) not in (Tensor, nn.Parameter) or x.dim() != 4 or x.shape[1] != self.in_channels:
            return False
        if {x.dtype, self.weight.dtype} != {torch.float32} or {x.device.type, self.weight.device.type} != {"cpu"}:
            return False
        if traced() or torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active():
            return False
        return suits(self, self.min_channels)

    def _transformed(self) -> Tensor:
        # by content: PyTorch does not count changes through `.data`, by which averaged weights are exchanged
        weight = self.weight.detach()
        if self._kernel is None or not torch.equal(self._kernel.origin, weight):
            self._kernel = _Kernel(weight.clone(), transform_kernel(weight))
        return self._kernel.values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kernel": None}  # made again where the copy needs it

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in the place of this module."""
        plain = self.plain.__new__(self.plain)
        plain.__dict__.update(self.__getstate__())
        return plain


def _pays(x: Tensor, min_tiles: int) -> bool:
    """Whether a map has enough tiles, and those enough outputs."""
    (down, across), (batch, _, height, width) = tiles(x), x.shape
    return batch * down * across >= min_tiles and height * width >= MIN_OUTPUTS * down * across


def suits(conv: nn.Conv2d, min_channels: int) -> bool:
    """Whether a convolution is of the kind, and as wide."""
    kind = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    same = kind == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    return same and min(conv.in_channels, conv.out_channels) >= min_channels


def use_winograd(
    module: nn.Module, min_channels: int = MIN_CHANNELS, others: Mapping[type, type[WinogradConv2d]] | None = None
) -> int:
    """Turn the plain convolutions of a network that suit into `WinogradConv2d`, with the parameters that they have.

    For whole detectors on a CPU: heads of both toolboxes and backbones of timm have their 3x3 convolutions as plain
    ``nn.Conv2d``. Detectron2 has many of a class of its own, see `fpn_plugins.adapters.detectron2.use_winograd`.

    Args:
        module: the network, changed in place.
        min_channels: convolutions of fewer channels, in or out, stay as they are, and those that are turned already
            compute as before. Where the gain begins depends on the processor.
        others: by subclass of ``nn.Conv2d``, what its convolutions become; those of no other subclass are turned.

    Returns:
        The number of convolutions that were turned.

    Raises:
        ValueError: ``min_channels`` below 1.
    """
    if min_channels < 1:
        raise ValueError(f"min_channels={min_channels!r} must be at least 1; 128 is the default")
    for layer in module.modules():
        if isinstance(layer, WinogradConv2d):
            layer.min_channels = min_channels
    becomes: dict[type, type[nn.Conv2d]] = {nn.Conv2d: WinogradConv2d, **(others or {})}
    plain = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and type(layer) in becomes)
    found = [layer for layer in plain if suits(layer, min_channels)]
    for layer in found:
        layer.__class__ = becomes[type(layer)]  # which has no more state than this
        vars(layer)["min_channels"] = min_channels
    return len(found)
