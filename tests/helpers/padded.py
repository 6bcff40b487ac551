"""What backbones promise that pad images to whole cells of their coarsest map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from precision import assert_same_maps
from registered import build


def assert_zero_padded_and_rounded_up(name: str, height: int, width: int) -> None:
    """Check that maps are those of the image padded with zeros to a multiple of 32, cropped to sides that round up."""
    adapter = build(name).double()
    image = torch.randn(1, 3, height, width, dtype=torch.double)
    with torch.no_grad():
        got, whole = adapter(image), adapter(F.pad(image, (0, -width % 32, 0, -height % 32)))
    for m, full, spec in zip(got, whole, adapter.feature_specs, strict=True):
        rows, columns = -(-height // spec.stride), -(-width // spec.stride)
        assert m.shape[-2:] == (rows, columns)
        assert_same_maps(m, full[..., :rows, :columns])
