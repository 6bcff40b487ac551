"""Deformable convolutions, v1 and v2."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.deformable import deform_conv2d, finite
from .operator import operator, widened


class Geometry(NamedTuple):
    """Stride, padding and dilation in pixels (height, width), and numbers of groups of channels and of offsets."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int


def _forward(
    input: Tensor, weight: Tensor, offset: Tensor, geometry: Geometry, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Deformable convolution by torchvision, whose offsets and masks lie in memory as mmcv's do."""
    return deform_conv2d(input, offset, weight, bias, *geometry[:3], mask)


def _backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, geometry: Geometry, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias."""
    import torchvision  # noqa: F401  (it registers the operator)

    stand_in = mask if mask is not None else input.new_zeros(len(input), 1)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output,
        input,
        weight,
        finite(offset),
        stand_in,
        input.new_zeros(len(weight)),
        *geometry.stride,
        *geometry.padding,
        *geometry.dilation,
        geometry.groups,
        geometry.offset_groups,
        mask is not None,
    )


def _as_read(x: Tensor, output: Tensor) -> Tensor:
    """Offsets or masks of the output's size, as mmcv's v2 reads those of a larger map: from the start of its memory.

    DyHead gives such offsets, and its weights were trained with them.
    """
    height, width = output.shape[-2:]
    number = x.shape[1] * height * width
    if x.shape[-2:] == output.shape[-2:] or x[0].numel() < number:
        return x
    return x.flatten(1)[:, :number].unflatten(1, (x.shape[1], height, width))


def _as_stored(x: Tensor, target: Tensor) -> Tensor:
    """Gradient of ``target`` from that of what `_as_read` made of it."""
    if x.shape == target.shape:
        return x
    stored = x.new_zeros(target.shape)
    stored.flatten(1)[:, : x[0].numel()] = x.flatten(1)
    return stored


@operator
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``output`` ``B C h w`` with the convolution of ``input``, whose taps are moved by ``offset``.

    ``offset`` is ``B G*K*2 h w``: per group and tap the movement in pixels, y before x. ``columns`` and ``ones`` are
    the extension's scratch memory.
    """
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    input, weight, offset = widened(input, weight, offset)
    output.copy_(_forward(input, weight, offset, geometry, None, None))


@operator
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``; ``columns`` becomes the weight's gradient, for the next function."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    grad, input, weight, offset = widened(grad_output, input, weight, offset)
    by_input, by_weight, by_offset, *_ = _backward(grad, input, weight, offset, geometry, None)
    grad_input.copy_(by_input)
    grad_offset.copy_(by_offset)
    columns.resize_(weight.shape).copy_(by_weight)


@operator
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Fill ``grad_weight`` with ``scale`` times the gradient, which ``columns`` holds if it was computed before."""
    if columns.shape == grad_weight.shape:
        grad_weight.copy_(columns).mul_(scale)
        return
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), group, deformable_group)
    # the gradient does not depend on the weight, which is not given
    grad, input, weight, offset = widened(grad_output, input, torch.zeros_like(grad_weight), offset)
    grad_weight.copy_(_backward(grad, input, weight, offset, geometry, None)[1]).mul_(scale)


@operator
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill ``output`` as `deform_conv_forward` does, each tap multiplied by ``mask`` (``B G*K h w``)."""
    geometry = Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group)
    input, weight, offset, mask, bias = widened(input, weight, offset, mask, bias)
    offset, mask = _as_read(offset, output), _as_read(mask, output)
    output.copy_(_forward(input, weight, offset, geometry, mask, bias if with_bias else None))


@operator
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the gradients of input, weight, bias (if there is one), offset and mask."""
    geometry = Geometry((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group)
    grad_output, input, weight, offset, mask = widened(grad_output, input, weight, offset, mask)
    offset, mask = _as_read(offset, grad_output), _as_read(mask, grad_output)
    results = _backward(grad_output, input, weight, offset, geometry, mask)
    targets = [grad_input, grad_weight, grad_offset, grad_mask, *([grad_bias] if with_bias else [])]
    for target, result in zip(targets, results, strict=False):
        target.copy_(_as_stored(result, target))
