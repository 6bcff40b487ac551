"""Focal losses (Lin et al., 2017, equation 5), on logits and on the output of a softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import operator, widened


def _weights(weight: Tensor, target: Tensor) -> Tensor | float:
    """Weight of each row by its class; background rows, which have no class, weigh 1 as in an unweighted loss."""
    if not weight.numel():
        return 1.0
    return torch.cat([weight, weight.new_ones(1)])[target]


def _signs(input: Tensor, target: Tensor) -> Tensor:
    """1 for the class of a row, -1 for the others: ``N C``, whose background rows have class ``C``."""
    classes = torch.arange(input.shape[1], device=input.device)
    return (target[:, None] == classes).to(input.dtype).mul_(2).sub_(1)


@operator
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` ``N C`` with ``-alpha_t (1 - p_t)^gamma log(p_t)`` of logits ``N C``.

    Args:
        input: logits.
        target: class of each row, ``C`` for background.
        weight: weight of each class, or no elements.
        output: losses.
        gamma: exponent.
        alpha: weight of a row's class; other classes have ``1 - alpha``.
    """
    logits, weight = widened(input, weight)
    sign = _signs(logits, target)
    logits = logits * sign
    balance = (0.5 + (alpha - 0.5) * sign) * torch.sigmoid(-logits).pow_(gamma)
    loss = balance.mul_(F.logsigmoid(logits)).neg_()
    output.copy_(loss * _rows(_weights(weight, target)))


@operator
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` with the derivative of each loss by its logit."""
    logits, weight = widened(input, weight)
    sign = _signs(logits, target)
    logits = logits * sign
    others = torch.sigmoid(-logits)  # 1 - p_t
    slope = torch.sigmoid(logits).mul_(F.logsigmoid(logits)).mul_(gamma).sub_(others)
    slope.mul_(others.pow_(gamma)).mul_(sign).mul_(0.5 + (alpha - 0.5) * sign)
    grad_input.copy_(slope * _rows(_weights(weight, target)))


def _rows(weights: Tensor | float) -> Tensor | float:
    return weights[:, None] if isinstance(weights, Tensor) else weights


def _probabilities(softmax: Tensor, target: Tensor) -> Tensor:
    """Probability of the class of each row; 1, so that the loss is 0, for rows to ignore."""
    own = softmax.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return own.where(target >= 0, 1).clamp(min=torch.finfo(own.dtype).tiny)


@operator
def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` ``N`` with ``-alpha (1 - p)^gamma log(p)``, ``p`` the probability of a row's class.

    Args:
        softmax: probabilities ``N C``.
        target: class of each row, negative for rows to ignore.
        weight: weight of each class, or no elements.
        output: losses.
        gamma: exponent.
        alpha: factor of all losses.
    """
    softmax, weight = widened(softmax, weight)
    p = _probabilities(softmax, target)
    output.copy_(-alpha * (1 - p).pow(gamma) * p.log() * _weights(weight, target))


@operator
def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` ``N C`` with the derivatives of the losses by the logits of the softmax."""
    softmax, weight = widened(softmax, weight)
    p = _probabilities(softmax, target)
    others = (1 - p).clamp(min=torch.finfo(p.dtype).tiny)
    slope = alpha * (gamma * others.pow(gamma - 1) * p * p.log() - (1 - p).pow(gamma))
    slope = slope * _weights(weight, target) * (target >= 0)
    buff.copy_(slope)
    own = F.one_hot(target.clamp(min=0), softmax.shape[1])
    grad_input.copy_(slope[:, None] * (own - softmax))
