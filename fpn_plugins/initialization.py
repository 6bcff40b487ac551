"""Initial weights of the convolutions inside a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from .checks import one_of


def init_convs(module: nn.Module, init: str | None) -> None:
    """Initialize every ``nn.Conv2d`` inside ``module``; biases become zero.

    A layer inside it that has a method ``init_weights``, such as a deformable convolution, has initialized itself.

    Args:
        module: module to initialize.
        init: ``"caffe2_xavier"`` (Detectron2, torchvision: uniform, fan in), ``"xavier_uniform"`` (mmdet's FPN:
            uniform, fan in + fan out), ``"kaiming_normal"`` (mmcv's ``ConvModule``: normal, fan out, with the gain of
            a leaky ReLU after the convolution), or ``None`` to leave PyTorch's own.

    Raises:
        ValueError: unknown name.
    """
    if init is None:
        return
    fill = INITS[one_of("init", init, INITS, ", or None")]
    slopes: dict[Any, float] = {}
    for layer in module.modules():
        act = getattr(layer, "act", None)
        if init == "kaiming_normal" and isinstance(act, nn.LeakyReLU):
            slopes[getattr(layer, "conv", None)] = act.negative_slope
    for conv in convs_to_initialize(module):
        if isinstance(conv, nn.Conv2d):
            fill(conv.weight, **({"a": slopes[conv], "nonlinearity": "leaky_relu"} if conv in slopes else {}))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def convs_to_initialize(module: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    """Yield the convolutions inside ``module``, but not those inside a layer that has a method ``init_weights``."""
    finished: set[nn.Module] = set()
    for layer in module.modules():
        if layer is not module and hasattr(layer, "init_weights"):
            finished.update(layer.modules())
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer not in finished:
            yield layer


INITS: dict[str, Callable[..., Tensor]] = {
    "caffe2_xavier": partial(nn.init.kaiming_uniform_, a=1),
    "xavier_uniform": nn.init.xavier_uniform_,
    "kaiming_normal": partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
}
