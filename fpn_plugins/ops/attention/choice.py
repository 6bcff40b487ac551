"""Choose the fastest form of attention for shapes, device and mode."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tracing import traced
from . import forms
from .forms import AxialBias, Bias, Form

SMALL_WINDOW = 64  # tokens: Swin's windows of 7 x 7 and 8 x 8
LARGE_WINDOW = 256  # tokens: ViTDet's windows of 14 x 14, and 16 x 16
MASK_BYTES = 2 << 30
FLASH_WIDTH = 256  # channels per head that flash kernels take


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias = None, scale: float | None = None) -> Tensor:
    """Compute ``softmax(scale q k + bias) v`` by one of the forms in ``forms.py``.

    Args:
        q: queries ``B M N D``, the shape of the result.
        k: keys ``B M n D``.
        v: values, the same shape as ``k``.
        bias: added to the scores: a tensor that broadcasts to ``B M N n``, or an `AxialBias`.
        scale: factor of the products; ``None`` is ``1 / sqrt(D)``.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return choose_form(q, k, v, bias)(q, k, v, bias, scale)


def choose_form(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Form:
    """Choose the form for inputs of these shapes, dtypes and devices; arguments are those of `attend`.

    ============================  =======================  =====================================
    bias, keys                    CPU                      CUDA and others
    ============================  =======================  =====================================
    tensor or axial, up to 64     masked; training: plain  half: plain; training: masked
                                                           float32: masked; training: plain
    tensor, more                  masked                   masked
    axial, up to 256, half        masked; training:        masked; training: widened
                                  blocked
    axial, more, half             blocked                  widened; wider than 256: widened_narrow
    axial, float32                as half                  masked up to 2 GiB, then widened_narrow
    traced, any                   masked; axial: widened (one kernel each, no loop)
    ============================  =======================  =====================================

    Flash kernels take at most 256 channels per head, the bias included: with 64 channels, maps of up to 96 x 96 keys.
    From there on the memory-efficient kernel computes `widened_narrow`; no form is left to PyTorch's plain products,
    which hold all scores.

    Milliseconds for inference / training (forward and backward). CPU: AMD EPYC with AVX-512, 1 thread, float32;
    ``python tools/benchmarks/attention_forms.py --threads 1`` (``docs/attention_forms.md``); the machine was not idle,
    and for 14 x 14 windows at inference another run had ``blocked`` 22.9, ``masked`` 26.5. GPU: NVIDIA H200, PyTorch
    2.11; ``python tools/benchmarks/gpu.py attention windows`` (``docs/gpu.md``); the row of 14 x 14 windows was
    measured before this function existed. On the 64 x 64 map in bfloat16, `widened_narrow` takes 0.71 / 3.47 with
    cuDNN's kernel, but 2.03 / 17.3 with the memory-efficient one, which GPUs without the former would take.

    =========================================  ===========  ===========  ===========  ==============  ===========
    case                                       plain        masked       widened      widened_narrow  blocked
    =========================================  ===========  ===========  ===========  ==============  ===========
    CPU, Swin's 7 x 7 windows                  8.5 / 24.8   6.5 / 26.9
    CPU, 14 x 14 windows                       20.7 / 40.5  11.0 / 41.9  17.5 / 47.6                  17.4 / 43.5
    CPU, 32 x 32 map                           105 / 238    58 / 231     66 / 227                     40 / 143
    CPU, 64 x 64 map                           1992 / 4001  934 / 3986   1591 / 5387                  673 / 2484
    GPU, bfloat16, Swin's 7 x 7 windows        0.79 / 2.17  0.91 / 1.52
    the same, shifted                          1.16 / 2.64  1.17 / 2.14
    GPU, float32, Swin's 7 x 7 windows         0.99 / 2.63  0.71 / 2.76
    the same, shifted                          1.24 / 2.89  0.96 / 3.32
    GPU, bfloat16, 14 x 14 windows, 200                     1.21 / 7.24  1.96 / 6.49  1.76 / 6.06
    GPU, bfloat16, 64 x 64 map, batch 2        3.35 / 7.27  1.41 / 7.02  0.85 / 3.71
    GPU, float32, 64 x 64 map, batch 2         6.23 / -     4.70 / -     8.74 / -     5.97 / -
    =========================================  ===========  ===========  ===========  ==============  ===========
    """
    if traced():
        return forms.widened if isinstance(bias, AxialBias) else forms.masked
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *_tensors(bias)))
    on_cpu, keys = q.device.type == "cpu", k.shape[-2]
    half = q.dtype in (torch.float16, torch.bfloat16)
    if bias is not None and keys <= SMALL_WINDOW:
        masked_wins = training if half and not on_cpu else not training
        return forms.masked if masked_wins else forms.plain
    if not isinstance(bias, AxialBias):
        return forms.masked
    if keys <= LARGE_WINDOW and not training and (on_cpu or half):
        return forms.masked
    if on_cpu:
        return forms.blocked
    if half:
        return forms.widened if forms.widened_channels(q, bias) <= FLASH_WIDTH else forms.widened_narrow
    # on the meta device, costs are counted with the same form at any size
    fits = q.is_meta or q[..., 0].numel() * keys * q.element_size() <= MASK_BYTES
    return forms.masked if fits else forms.widened_narrow


def _tensors(bias: Bias) -> tuple[Tensor, ...]:
    return () if bias is None else bias if isinstance(bias, AxialBias) else (bias,)
