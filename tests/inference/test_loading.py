"""Weights of another detector are an error that stays short."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fpn_plugins.inference import load_weights


def network(width: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(50)))


def test_weights_of_other_shapes_are_named_briefly() -> None:
    message = (
        r"'a.pth' does not fit tiny.py: size mismatch, checkpoint has 100 tensors .*0.weight \(3, 3\) for \(2, 2\)"
    )
    with pytest.raises(ValueError, match=message) as error:
        load_weights(network(2), network(3).state_dict(), "a.pth", "tiny.py")
    assert len(str(error.value)) < 300 and "97 more" in str(error.value)


def test_errors_of_a_modules_own_check_are_kept() -> None:
    class Picky(nn.Linear):
        def load_state_dict(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            raise ValueError("it is picky")

    with pytest.raises(ValueError, match="does not fit tiny.py: it is picky"):
        load_weights(Picky(1, 1), {"weight": torch.zeros(1, 1)}, "a.pth", "tiny.py")
