"""Steps of batch normalization over several processes; mmcv adds up their results in between.

Maps are ``B C S``, in any precision; statistics are per channel, in float32.
"""

from __future__ import annotations

from torch import Tensor

from .operator import operator


def _channels(statistics: Tensor) -> Tensor:
    return statistics[:, None]


@operator
def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Fill ``mean``."""
    mean.copy_(input.float().mean((0, 2)))


@operator
def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Fill ``var`` with the mean square deviation from ``mean``."""
    var.copy_((input.float() - _channels(mean)).square_().mean((0, 2)))


@operator
def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Fill ``output``, the normalized input ``norm`` and ``std``, and update the running statistics.

    ``group_size`` is the number of processes, by which the variance is unbiased.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((input.float() - _channels(mean)) / _channels(std))
    output.copy_(norm * _channels(weight) + _channels(bias))
    count = input.shape[0] * input.shape[2] * group_size
    running_mean.mul_(1 - momentum).add_(momentum * mean)
    running_var.mul_(1 - momentum).add_(momentum * var * (count / max(1, count - 1)))


@operator
def sync_bn_backward_param(grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Fill the gradients of weight and bias."""
    grad = grad_output.float()
    grad_weight.copy_((grad * norm).sum((0, 2)))
    grad_bias.copy_(grad.sum((0, 2)))


@operator
def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Fill ``grad_input``; the parameters' gradients are means over the processes."""
    count = grad_output.shape[0] * grad_output.shape[2]
    shared = (_channels(grad_weight) * norm + _channels(grad_bias)) / count
    grad_input.copy_((grad_output.float() - shared) * _channels(weight / std))
