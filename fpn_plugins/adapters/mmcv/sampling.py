"""Sample maps at points inside regions, group by group, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.deformable import FAR

MAX_SAMPLES = 2**24  # values that one step holds


def corners(y: Tensor, x: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield index in the flat map and weight of the four pixels around points; 0 is the first pixel's center.

    Points up to one pixel outside take the border's value, others weigh nothing.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.where(inside, 0).clamp(0, height - 1), x.where(inside, 0).clamp(0, width - 1)
    top, left = y.detach().floor(), x.detach().floor()
    for row, row_weight in ((top, 1 - (y - top)), ((top + 1).clamp(max=height - 1), y - top)):
        for column, weight in ((left, 1 - (x - left)), ((left + 1).clamp(max=width - 1), x - left)):
            yield row.long() * width + column.long(), row_weight * weight * inside


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolate ``C H W`` at points in pixels; returns ``C`` and the shape of the points, see `corners`."""
    flat = image.flatten(1)
    total = image.new_zeros(len(image), *y.shape)
    for index, weight in corners(y, x, *image.shape[1:]):
        total = total + flat.index_select(1, index.flatten()).view_as(total) * weight
    return total


def finite(rois: Tensor) -> Tensor:
    """Replace regions ``N 5`` that are not numbers by empty ones beyond the map, whose values are 0."""
    return torch.where(rois.isfinite().all(1, keepdim=True), rois, rois.new_tensor([0, FAR, FAR, FAR, FAR]))


class Bins(NamedTuple):
    """Regions divided into bins: first corner, size of a bin, and samples per bin, each ``N 2`` with x before y."""

    start: Tensor
    size: Tensor
    samples: Tensor


def divide(
    rois: Tensor, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int, shift: float, min_size: float
) -> Bins:
    """Divide regions ``N 5`` (image, then corners in pixels of the image) into ``bins`` (rows, columns).

    Args:
        rois: regions.
        bins: number of rows and columns.
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples per bin and side; 0 takes about one per pixel of the map.
        shift: subtracted from the corners, in pixels of the map.
        min_size: smallest side of a region, in pixels of the map.
    """
    start, end = (rois[:, 1:] * spatial_scale - shift).split(2, dim=1)
    size = (end - start).clamp(min=min_size) / rois.new_tensor([bins[1], bins[0]])
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else size.ceil().clamp(min=0)
    return Bins(start, size, samples.long())


def points(start: Tensor, size: Tensor, bins: int, samples: int) -> Tensor:
    """Sample positions along one side: ``N bins samples`` from starts and bin sizes ``N``."""
    size = size[:, None, None]
    first = start[:, None, None] + torch.arange(bins, device=start.device)[:, None] * size
    return first + (torch.arange(samples, device=start.device) + 0.5) * size / max(samples, 1)


def groups(rois: Tensor, counts: Tensor, values: int) -> Iterator[tuple[int, int, int, Tensor]]:
    """Group regions of the same image with the same counts ``N 2`` (columns, rows) of samples per bin.

    Args:
        rois: regions ``N 5``.
        counts: number of columns and rows.
        values: number of values per region and sample.

    Yields:
        The image's index, columns, rows, and the indices of the regions, few enough to hold all samples.
    """
    keys, members = torch.cat([rois[:, :1].long(), counts], dim=1).unique(dim=0, return_inverse=True)
    for number, (image, columns, rows) in enumerate(keys.tolist()):
        chunk = max(1, MAX_SAMPLES // max(1, values * columns * rows))
        for indices in (members == number).nonzero()[:, 0].split(chunk):
            yield image, columns, rows, indices


def scatter_bilinear(grad_input: Tensor, images: Tensor, y: Tensor, x: Tensor, grad: Tensor) -> None:
    """Add the gradients of values interpolated at points ``N C h w``, one per channel, to ``grad_input`` ``B C H W``.

    The points of a region lie in one image, ``images`` ``N``. A point at ``y = -1`` stands for no point.
    """
    channels, height, width = grad_input.shape[1:]
    plane = images.long()[:, None] * channels + torch.arange(channels, device=images.device)
    for index, weight in corners(y, x, height, width):
        place = plane[:, :, None, None] * (height * width) + index
        grad_input.view(-1).scatter_add_(0, place.flatten(), (grad * weight * (y != -1)).flatten())
