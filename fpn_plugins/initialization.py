"""Initial weights of the convolutions inside a module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
    finished: set[nn.Module] = set()
    slopes: dict[nn.Module, float] = {}
    for layer in module.modules():
        if layer is not module and hasattr(layer, "init_weights"):
            finished.update(layer.modules())
        act = getattr(layer, "act", None)
        if isinstance(act, nn.LeakyReLU) and init == "kaiming_normal" and isinstance(layer.conv, nn.Conv2d):
            slopes[layer.conv] = act.negative_slope
        if isinstance(layer, nn.Conv2d) and layer not in finished:
            leaky = {"a": slopes[layer], "nonlinearity": "leaky_relu"} if layer in slopes else {}
            fill(layer.weight, **leaky)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


INITS: dict[str, Callable[..., Tensor]] = {
    "caffe2_xavier": partial(nn.init.kaiming_uniform_, a=1),
    "xavier_uniform": nn.init.xavier_uniform_,
    "kaiming_normal": partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
}
