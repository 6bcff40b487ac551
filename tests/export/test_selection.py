"""Candidates come in the order in which the toolboxes sort them, also where scores are equal."""

from __future__ import annotations

import pytest
import torch

from fpn_plugins.export.boxes import quotients
from fpn_plugins.export.selection import NOTHING, best, best_pairs


def tied(*shape: int) -> torch.Tensor:
    """Return numbers of which many are equal."""
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("number", [1, 5, 12, 40])
def test_equal_scores_come_by_index(number: int) -> None:
    """Which of several equal scores are cut off is open."""
    scores = tied(3, 12)
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    got, places = best(scores, number)
    assert torch.equal(got[:, :12], values[:, :number]) and bool((got[:, 12:] == NOTHING).all())
    assert torch.equal(scores.gather(1, places[:, :12]), got[:, :12])
    if number >= 12:
        assert torch.equal(places[:, :12], indices)
    assert bool((places[:, 12:] == 0).all())


@pytest.mark.parametrize("number", [1, 7, 30, 45, 50])
def test_pairs_are_sorted_as_one_list_of_scores(number: int) -> None:
    """As the toolboxes do: all scores of a level in one list, anchor by anchor."""
    logits = tied(2, 15, 3) - 2
    scores = logits.sigmoid().flatten(1)
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    got, anchors, classes = best_pairs(logits, number)
    found = (anchors * 3 + classes)[:, :45]
    assert torch.equal(got[:, :45], values[:, :number]) and torch.equal(scores.gather(1, found), got[:, :45])
    if number >= 45:
        assert torch.equal(found, indices)


def test_quotients_are_exact() -> None:
    """Also above 2**24, where floats no longer hold every integer."""
    drawn = torch.randint(0, 2**31, (50_000,), generator=torch.Generator().manual_seed(0))
    numbers = torch.cat([torch.arange(200), drawn])
    for divisor in (1, 3, 80, 337, 9999):
        near = numbers // divisor * divisor
        for tried in (numbers, near, (near - 1).clamp(min=0)):
            tried = tried[tried < divisor * 2**22]  # quotients below 2**22
            assert torch.equal(quotients(tried, divisor), tried // divisor)
