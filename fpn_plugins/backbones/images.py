"""Check the images that a backbone reads."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Proxy

from ..ops.tracing import traced


def check_image(x: Any, in_chans: int | None, owner: str) -> None:
    """Raise an error unless ``x`` is a batch of images ``B in_chans H W`` of floating-point numbers; ``B`` may be 0.

    Args:
        x: value to check; the placeholder of ``torch.fx.symbolic_trace`` passes, as it has no shape.
        in_chans: number of channels; ``None`` for any.
        owner: name of the backbone, for the message.

    Raises:
        TypeError: not a tensor.
        ValueError: another number of dimensions or channels, no pixels, or another type of numbers.
    """
    if isinstance(x, Proxy):
        return
    channels = "C" if in_chans is None else in_chans
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner} takes images B {channels} H W in one tensor, not a {type(x).__name__}")
    if x.dim() != 4 or in_chans is not None and x.shape[1] != in_chans:
        raise ValueError(
            f"{owner} takes images B {channels} H W, but received the shape {tuple(x.shape)}; stack single images, "
            "and set in_chans for another number of channels"
        )
    if not x.is_floating_point():
        raise ValueError(f"{owner} takes images of normalized floating-point numbers, not of {x.dtype}")
    if not traced() and 0 in x.shape[1:]:
        raise ValueError(f"{owner} takes images with pixels, but received the shape {tuple(x.shape)}")
