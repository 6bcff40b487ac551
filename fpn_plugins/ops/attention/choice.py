"""Which form of attention is the fastest where it runs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tracing import traced
from . import forms
from .forms import AxialBias, Bias, Form

SMALL_WINDOW = 64  # tokens: Swin's windows of 7 x 7 and 8 x 8
LARGE_WINDOW = 256  # tokens: ViTDet's windows of 14 x 14, and 16 x 16
MASK_BYTES = 2 << 30


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias = None, scale: float | None = None) -> Tensor:
    """``softmax(scale q k + bias) v``, by one of the forms of ``forms.py``.

    Args:
        q: queries ``B M N D``.
        k: keys ``B M n D``.
        v: values, the same shape as ``k``.
        bias: added to the scores: a tensor that broadcasts to ``B M N n``, or an `AxialBias`.
        scale: factor of the products; ``None`` is ``1 / sqrt(D)``.

    Returns:
        ``B M N D``.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return choose_form(q, k, v, bias)(q, k, v, bias, scale)


def choose_form(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Form:
    """Form for inputs of these shapes, dtypes and devices; arguments as of `attend`.

    TABLE
    """
    axial = isinstance(bias, AxialBias)
    if traced():
        return forms.widened if axial else forms.masked
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *_tensors(bias)))
    on_cpu, keys = q.device.type == "cpu", k.shape[-2]
    if bias is not None and keys <= SMALL_WINDOW:
        return forms.masked if on_cpu and not training else forms.plain
    if not axial:
        return forms.masked
    if on_cpu:
        return forms.blocked
    if q.dtype in (torch.float16, torch.bfloat16):
        return forms.masked if keys <= LARGE_WINDOW and not training else forms.widened
    return forms.masked if q[..., 0].numel() * keys * q.element_size() <= MASK_BYTES else forms.widened_narrow


def _tensors(bias: Bias) -> tuple[Tensor, ...]:
    return () if bias is None else bias if isinstance(bias, AxialBias) else (bias,)
