"""Weighted sums of neighborhoods: CARAFE, and attention that samples maps of several scales."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...upsampling import reassemble
from .operator import gradients, operator, widened


def _carafe(features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Upsample ``B C h w`` with weights ``B G*K*K H W``, see `reassemble`."""
    weights = F.pixel_unshuffle(masks, scale_factor).unflatten(1, (group_size, kernel_size**2, scale_factor**2))
    return F.pixel_shuffle(reassemble(features, weights, kernel_size), scale_factor)


@operator
def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill ``output`` with weighted sums of ``kernel_size`` x ``kernel_size`` cells, in ``group_size`` groups."""
    features, masks = widened(features, masks)
    output.copy_(_carafe(features, masks, kernel_size, group_size, scale_factor))


@operator
def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill the gradients of features and masks."""
    grad, *inputs = widened(top_grad, features, masks)
    results = gradients(lambda x, weights: _carafe(x, weights, kernel_size, group_size, scale_factor), inputs, grad)
    bottom_grad.copy_(results[0])
    mask_grad.copy_(results[1])


@operator
def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output`` as `carafe_naive_forward` does, and ``rfeatures`` with the features for the backward pass."""
    rfeatures.copy_(features)
    features, masks = widened(features, masks)
    output.copy_(_carafe(features, masks, kernel_size, group_size, scale_factor))


@operator
def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill the gradients of features and masks; the other outputs are the extension's scratch memory."""
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor)


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Multi-scale deformable attention by mmcv's own definition in PyTorch, which mmcv uses on a CPU."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes.tolist(), locations, weights)


@operator
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return ``B Q M*D``: weighted sums of values sampled at ``P`` points on each of ``L`` levels.

    Args:
        value: ``B S M D``, the cells of all levels in a row, with ``M`` heads of ``D`` channels.
        value_spatial_shapes: ``L 2``, height and width of each level.
        value_level_start_index: ``L``, each level's first cell.
        sampling_locations: ``B Q M L P 2``, x and y as fractions of width and height.
        attention_weights: ``B Q M L P``.
        im2col_step: images that the extension computes at a time.
    """
    wide = widened(value, sampling_locations, attention_weights)
    return _attend(wide[0], value_spatial_shapes, wide[1], wide[2]).to(value.dtype)


@operator
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the gradients of values, locations and weights."""
    grad, *inputs = widened(grad_output, value, sampling_locations, attention_weights)
    results = gradients(lambda v, places, w: _attend(v, value_spatial_shapes, places, w), inputs, grad)
    for target, result in zip((grad_value, grad_sampling_loc, grad_attn_weight), results, strict=True):
        target.copy_(result)
