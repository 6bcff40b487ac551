"""Check the device that a detector is to run on."""

from __future__ import annotations

import torch


def existing_device(device: str) -> str:
    """Check a device; ``ValueError`` if it is unknown, not there, or computes no values."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={device!r} does not exist here ({reason}); use 'cpu', 'cuda' or 'cuda:0'") from error
    return device
