"""Pool regions of maps: RoIAlign, RoIPool and deformable RoI pooling.

Regions ``rois`` are ``N 5``: the index of the image, and corners x1, y1, x2, y2 in pixels of the image; maps ``input``
are ``B C H W``; outputs are ``N C`` and the bins' rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .operator import gradients, operator, widened
from .sampling import bilinear, divide, finite, groups, points, scatter_bilinear

MAX_POOLING = 0  # mmcv's number
LOWEST = -10000.0  # what mmcv's maximum starts with


@operator
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` with the mean (``pool_mode=1``) or maximum (0) of samples in each bin.

    Maxima also fill ``argmax_y`` and ``argmax_x`` with the places of the samples.
    """
    maps, boxes = widened(input, finite(rois))
    bins = (aligned_height, aligned_width)
    if pool_mode != MAX_POOLING:
        from torchvision.ops import roi_align

        output.copy_(roi_align(maps, boxes, bins, spatial_scale, sampling_ratio, aligned))
        return
    output.fill_(LOWEST)
    argmax_y.fill_(-1)
    argmax_x.fill_(-1)
    start, size, samples = divide(boxes, bins, spatial_scale, sampling_ratio, 0.5 * aligned, 0.0 if aligned else 1.0)
    for image, columns, rows, members in groups(boxes, samples, output[:1].numel()):
        if columns * rows == 0:
            continue
        y = points(start[members, 1], size[members, 1], bins[0], rows)[:, :, None, :, None]
        x = points(start[members, 0], size[members, 0], bins[1], columns)[:, None, :, None, :]
        y, x = (place.flatten(3) for place in torch.broadcast_tensors(y, x))  # N h w samples
        best, place = bilinear(maps[image], y, x).transpose(0, 1).max(dim=-1)
        found = best > LOWEST
        for target, value in (
            (output, best),
            (argmax_y, y[:, None].expand(*best.shape, -1).gather(-1, place[..., None])[..., 0]),
            (argmax_x, x[:, None].expand(*best.shape, -1).gather(-1, place[..., None])[..., 0]),
        ):
            target[members] = torch.where(found, value.to(target.dtype), target[members])


@operator
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, which is zero."""
    import torchvision

    grad, boxes = widened(grad_output, finite(rois))
    bins, geometry = (aligned_height, aligned_width), (sampling_ratio, aligned)
    if pool_mode == MAX_POOLING:
        total, y, x = widened(grad_input, argmax_y, argmax_x)
        scatter_bilinear(total, boxes[:, 0], y, x, grad)
        grad_input.copy_(total)
    elif torch.are_deterministic_algorithms_enabled() and grad.is_cuda:
        zeros = grad.new_zeros(grad_input.shape)
        align = torchvision.ops.roi_align  # has a deterministic form
        (total,) = gradients(lambda maps: align(maps, boxes, bins, spatial_scale, *geometry), [zeros], grad)
        grad_input.copy_(total)
    else:
        backward = torch.ops.torchvision._roi_align_backward
        grad_input.copy_(backward(grad, boxes, spatial_scale, *bins, *grad_input.shape, *geometry))


def _roi_pool_edges(rois: Tensor, bins: int, limit: int, spatial_scale: float, axis: int) -> tuple[Tensor, Tensor]:
    """First pixel of every bin and the pixel after its last one, ``N bins``, along x (``axis=0``) or y (1)."""
    start = rois[:, 1 + axis] * spatial_scale
    size = (rois[:, 3 + axis] + 1) * spatial_scale - start
    number = torch.arange(bins + 1, device=rois.device)
    edges = number * (size / bins)[:, None] + start[:, None]
    first = edges[:, :-1].floor().clamp(0, limit).long()
    last = edges[:, 1:].ceil().clamp(0, limit).long()
    return first, torch.where(size[:, None] > 0, last, first)


@operator
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` with the maximum of the pixels in each bin, and ``argmax`` with its index in the map.

    Corners are not rounded, unlike torchvision's; the last pixel of a region is inside. An empty bin is 0 and has
    index -1.
    """
    maps, boxes = widened(input, finite(rois))
    height, width = input.shape[-2:]
    top, bottom = _roi_pool_edges(boxes, pooled_height, height, spatial_scale, 1)
    left, right = _roi_pool_edges(boxes, pooled_width, width, spatial_scale, 0)
    counts = torch.stack([(right - left).amax(1), (bottom - top).amax(1)], dim=1)
    output.zero_()
    argmax.fill_(-1)
    for image, columns, rows, members in groups(boxes, counts, output[:1].numel()):
        if columns * rows == 0:
            continue
        y = top[members, :, None] + torch.arange(rows, device=rois.device)  # N h rows
        x = left[members, :, None] + torch.arange(columns, device=rois.device)
        inside = (y < bottom[members, :, None])[:, :, None, :, None] & (x < right[members, :, None])[:, None, :, None]
        y, x = y.clamp(max=height - 1)[:, :, None, :, None], x.clamp(max=width - 1)[:, None, :, None]
        values = maps[image][:, y, x].masked_fill(~inside, -torch.inf).flatten(4)  # C N h w samples
        best, place = values.transpose(0, 1).max(dim=-1)
        index = (y * width + x).flatten(3)[:, None].expand(*best.shape, -1).gather(-1, place[..., None])[..., 0]
        found = best > -torch.inf
        output[members] = best.where(found, 0).to(output.dtype)
        argmax[members] = index.where(found, -1).to(argmax.dtype)


@operator
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``, which is zero."""
    channels, height, width = grad_input.shape[1:]
    (grad,) = widened(grad_output)
    plane = finite(rois)[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = plane[:, :, None, None] * (height * width) + argmax.clamp(min=0)
    total = grad.new_zeros(grad_input.numel())
    total.scatter_add_(0, index.flatten(), (grad * (argmax >= 0)).flatten())
    grad_input.copy_(total.view_as(grad_input))


def _deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    """Mean of samples in bins, each moved by ``gamma`` times ``offset`` (``N 2 h w``, x before y) of its region."""
    start, size, samples = divide(rois, bins, spatial_scale, sampling_ratio, 0.5, 0.0)
    nothing = input[:0, :, :1, :1].expand(0, -1, *bins)  # a part of the graph even without regions
    pooled, order = [nothing], [torch.zeros(0, dtype=torch.long, device=rois.device)]
    for image, columns, rows, members in groups(rois, samples, input.shape[1] * bins[0] * bins[1]):
        y = points(start[members, 1], size[members, 1], bins[0], rows)[:, :, None, :, None]
        x = points(start[members, 0], size[members, 0], bins[1], columns)[:, None, :, None, :]
        if offset.numel():
            region = size[members] * size.new_tensor([bins[1], bins[0]])
            shift = gamma * region[:, :, None, None] * offset[members]
            x, y = x + shift[:, 0, ..., None, None], y + shift[:, 1, ..., None, None]
        y, x = torch.broadcast_tensors(y, x)
        pooled.append(bilinear(input[image], y, x).sum((-2, -1)).transpose(0, 1) / max(1, rows * columns))
        order.append(members)
    return torch.cat(pooled)[torch.cat(order).argsort()]


@operator
def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill ``output``; an ``offset`` without elements moves nothing."""
    input, rois, offset = widened(input, finite(rois), offset)
    bins = (pooled_height, pooled_width)
    output.copy_(_deform_roi_pool(input, rois, offset, bins, spatial_scale, sampling_ratio, gamma))


@operator
def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    grad, maps, boxes, shifts = widened(grad_output, input, finite(rois), offset)
    bins = (pooled_height, pooled_width)

    def pool(maps: Tensor, shifts: Tensor) -> Tensor:
        return _deform_roi_pool(maps, boxes, shifts, bins, spatial_scale, sampling_ratio, gamma)

    for target, value in zip((grad_input, grad_offset), gradients(pool, [maps, shifts], grad), strict=True):
        target.copy_(value)
