"""Layers that necks and backbones share: convolution + norm + activation, channel-first LayerNorm.

Norms, activations and convolutions are given by name or as a factory, so that a toolbox can pass its own (``SyncBN`` of
mmcv, ``FrozenBN`` of Detectron2, ``ConvWS``, deformable convolutions).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import name_or_factory, one_of, positive_int, positive_number, shown
from .initialization import INITS, init_convs  # noqa: F401  (passed on)
from .ops.memory_format import is_channels_last

NormFactory = Callable[[int], nn.Module]
ActFactory = Callable[[], nn.Module]
ConvFactory = Callable[..., nn.Module]

OR_FACTORY = ", None, or pass a factory"
GROUPS = 32  # of GN in both toolboxes
WINOGRAD_REMOVED = (
    "Winograd convolutions (conv='winograd', WinogradConv2d) were removed; use channels-last maps, torch.compile with "
    "freezing, or an export to ONNX Runtime or OpenVINO instead"
)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels at each position of a ``B C H W`` map.

    Matches Detectron2's channel-first ``LayerNorm`` (``layers/batch_norm.py``) and its default ``eps``. The result has
    the memory format of the input, channels-last or contiguous.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        positive_int("channels", channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = positive_number("eps", eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` (``B C H W``) over ``C``."""
        channels_last = is_channels_last(x)
        x = x.permute(0, 2, 3, 1)  # B H W C
        x = F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)
        x = x.permute(0, 3, 1, 2)  # B C H W
        return x if channels_last else x.contiguous()

    def extra_repr(self) -> str:
        """Return the arguments that ``print(module)`` shows."""
        return f"{self.weight.numel()}, eps={self.eps}"


def _group_norm(channels: int) -> nn.Module:
    if channels % GROUPS:
        raise ValueError(f"norm='GN' needs channels divisible by {GROUPS}, got {channels}; pass a factory instead")
    return nn.GroupNorm(GROUPS, channels)


NORMS: dict[str, NormFactory] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "GN": _group_norm,
    "LN": LayerNorm2d,
}
ACTIVATIONS: dict[str, ActFactory] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
}


def check_layers(**given: Any) -> None:
    """Check arguments of a constructor whose names end in ``norm``, ``act``, ``conv`` or ``init``, given by name.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name nor a factory, or a module that is built already.
    """
    for argument, value in given.items():
        kind = argument.rpartition("_")[2]
        if kind == "init" and value is not None:
            one_of(argument, value, INITS, ", or None")
        elif kind == "act":
            make_act(value, argument)
        elif kind == "norm":
            name_or_factory(argument, value, NORMS, OR_FACTORY)
        elif kind == "conv":
            make_conv(value)


def _built(argument: str, factory: Any, *arguments: Any) -> Any:
    """Call a factory; ``TypeError`` if it does not take these arguments or builds no module (or, for norms, none)."""
    try:
        layer = factory(*arguments)
    except TypeError as error:
        raise TypeError(f"{argument}={shown(factory)} cannot be called with {arguments}: {error}") from error
    if not isinstance(layer, nn.Module) and not (layer is None and argument.endswith("norm")):
        raise TypeError(f"{argument}={shown(factory)} must build a module, but built {shown(layer)}")
    return layer


def make_norm(norm: str | NormFactory | None, channels: int, argument: str = "norm") -> nn.Module | None:
    """Build a norm layer.

    Args:
        norm: one of ``NORMS`` (``"BN"``, ``"SyncBN"``, ``"GN"`` with 32 groups, ``"LN"``), a factory
            ``channels -> Module``, or ``None``/``""`` for none.
        channels: number of channels.
        argument: name of the argument that holds it, for messages.

    Raises:
        ValueError: unknown name, or channels that GN cannot divide.
        TypeError: neither a name nor a factory, or a factory that builds no module.
    """
    if norm is None or norm == "":
        return None
    name_or_factory(argument, norm, NORMS, OR_FACTORY)
    return NORMS[norm](channels) if isinstance(norm, str) else _built(argument, norm, channels)


def make_act(act: str | ActFactory | None, argument: str = "act") -> nn.Module | None:
    """Build an activation from a name in ``ACTIVATIONS``, a factory ``() -> Module``, or ``None``/``""`` for none."""
    if act is None or act == "":
        return None
    name_or_factory(argument, act, ACTIVATIONS, OR_FACTORY)
    return ACTIVATIONS[act]() if isinstance(act, str) else _built(argument, act)


def make_conv(conv: ConvFactory | None) -> ConvFactory:
    """Resolve ``conv`` to a convolution factory.

    Args:
        conv: ``None`` for ``nn.Conv2d``, or a factory called with the arguments of ``nn.Conv2d``.

    Raises:
        ValueError: a string; convolutions have no names.
    """
    if conv is None:
        return nn.Conv2d
    if isinstance(conv, str):
        unknown = f"conv={conv!r} is unknown; pass None or a factory such as nn.Conv2d"
        raise ValueError(WINOGRAD_REMOVED if conv == "winograd" else unknown)
    name_or_factory("conv", conv, (), OR_FACTORY)
    return conv


def with_bias(conv: ConvFactory | None, bias: bool = True) -> ConvFactory:
    """Return a convolution factory (see `make_conv`) that has a bias, or has none, with and without a norm."""
    return partial(_with_bias, make_conv(conv), bias)


def _with_bias(conv: ConvFactory, wanted: bool, /, *args: Any, **kwargs: Any) -> nn.Module:
    return conv(*args, **{**kwargs, "bias": wanted})


class ActConv2d(nn.Conv2d):
    """Activation, then convolution; ``partial(ActConv2d, act)`` is a convolution factory.

    Args:
        act: see `make_act`.
        *args, **kwargs: arguments of ``nn.Conv2d``.
    """

    def __init__(self, act: str | ActFactory | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.act = make_act(act) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to the shape that ``nn.Conv2d`` returns."""
        return super().forward(self.act(x))


class ConvNormAct(nn.Module):
    """Convolution, norm and activation, with "same" padding for odd kernels.

    The convolution has a bias exactly when there is no norm, as in mmcv's ``ConvModule`` (``bias='auto'``) and in
    Detectron2's FPN. Parameters are named ``conv.*`` and ``norm.*`` for every kind of norm.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        kernel_size: side of the kernel in cells.
        stride: step in cells.
        norm: see `make_norm`.
        act: see `make_act`.
        conv: factory called as ``conv(in_channels, out_channels, kernel_size, stride=, padding=, bias=)``;
            see `make_conv`.
        padding: cells of zeros on each side; ``None`` for "same" padding.
        dilation: step between the cells that the kernel reads; passed to ``conv`` only if it is not 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        norm: str | NormFactory | None = None,
        act: str | ActFactory | None = None,
        conv: ConvFactory | None = None,
        padding: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        norm_layer = make_norm(norm, out_channels)
        dilated = {} if dilation == 1 else {"dilation": dilation}
        padding = dilation * (kernel_size // 2) if padding is None else padding
        build = partial(make_conv(conv), stride=stride, padding=padding, bias=norm_layer is None, **dilated)
        self.conv = _built("conv", build, in_channels, out_channels, kernel_size)
        self.norm = norm_layer
        self.act = make_act(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out ceil(H / stride) ceil(W / stride)``."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        if self.act is not None:
            x = self.act(x)
        return x
