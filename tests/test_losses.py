"""Weights of the levels: what is accepted, and what is done with them."""

import pytest
import torch

from fpn_plugins.losses import check_level_weights, weigh_levels


def test_no_weights_are_none() -> None:
    assert check_level_weights(None, 5) is None
    assert check_level_weights([], 5) is None


def test_weights_become_floats() -> None:
    weights = check_level_weights([2, 0, 0.5], 3)
    assert weights == (2.0, 0.0, 0.5) and all(type(weight) is float for weight in weights)


def test_another_number_of_weights_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"are 3 weights, the head has 5 levels"):
        check_level_weights([1, 1, 1], 5)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, float("nan")], [float("inf"), 1.0], [0, 0]])
def test_weights_that_make_no_loss_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="must be finite, none below 0 and not all 0"):
        check_level_weights(weights, 2)


def test_each_level_gets_its_own_weight() -> None:
    weighed = weigh_levels([torch.tensor(3.0), torch.tensor(5.0)], [2.0, 0.5])
    assert [float(loss) for loss in weighed] == [6.0, 2.5]
    with pytest.raises(ValueError, match="argument"):
        weigh_levels([torch.tensor(3.0)], [2.0, 0.5])
