"""Compare outputs, gradients and statistics of a neck with a peer's, or with its own in another mode."""

from __future__ import annotations

import copy

import torch
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins.weights import KeyMap


def randomize(module: nn.Module) -> None:
    """Draw every parameter, so that swapped norms or biases show; a BiFPN's edge weights stay mostly positive."""
    for key, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=0.3)
        if key.endswith("edge_weights"):
            nn.init.uniform_(parameter, -0.3, 1.0)  # a negative one counts as zero
            parameter.data[0] = 0.7


def halves(size: tuple[int, int], number: int, up: bool = True) -> list[tuple[int, int]]:
    """Return sizes of ``number`` maps, each side half of the previous one, rounded up or down."""
    sizes = [size]
    for _ in range(number - 1):
        sizes.append(tuple(max(1, (side + up) // 2) for side in sizes[-1]))
    return sizes


def outputs_and_gradients(
    module: nn.Module, maps: list[Tensor], allow_unused: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs, and gradients of inputs and parameters in order; zeros for those allowed to be unused."""
    leaves = [m.clone().requires_grad_() for m in maps]
    outputs = module(leaves)
    loss = sum((o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o)).sum() for o in outputs)
    wanted = [*leaves, *module.parameters()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=allow_unused)
    return list(outputs), [torch.zeros_like(w) if g is None else g for g, w in zip(grads, wanted, strict=True)]


def assert_equals_peer(
    ours: nn.Module,
    theirs: nn.Module,
    maps: list[Tensor],
    table: KeyMap,
    allow_unused: bool = False,
) -> None:
    """Compare outputs, gradients and batch statistics with a peer's."""
    wanted, wanted_grads = outputs_and_gradients(theirs, maps, allow_unused)
    got, grads = outputs_and_gradients(ours, maps, allow_unused)
    assert_same_maps(got, wanted)
    assert_same_gradients(grads, wanted_grads)
    assert_same_maps(dict(ours.state_dict()), table.apply(theirs.state_dict())[0])


def assert_exact_both_ways(table: KeyMap, theirs: nn.Module, ours: nn.Module) -> None:
    """Check that the key map is complete in both directions and keeps the order."""
    renamed, report = table.apply(theirs.state_dict(), ours.state_dict())
    assert report.complete and not report.dropped, str(report)
    assert list(renamed) == list(ours.state_dict())  # same order, so that initialization draws alike
    back, report = table.inverse().apply(ours.state_dict(), theirs.state_dict())
    assert report.complete, str(report)
    assert list(back) == list(theirs.state_dict())
    copy.deepcopy(theirs).load_state_dict(back)
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())


def assert_checkpointing_changes_nothing(
    plain: nn.Module, frugal: nn.Module, maps: list[Tensor], allow_unused: bool = False
) -> None:
    """Check that gradient checkpointing changes neither outputs nor gradients nor statistics of a neck."""
    frugal.load_state_dict(plain.state_dict())
    a, a_grads = outputs_and_gradients(plain, maps, allow_unused)
    b, b_grads = outputs_and_gradients(frugal, maps, allow_unused)
    assert_same_maps([*b, *frugal.buffers()], [*a, *plain.buffers()])
    assert_same_gradients(b_grads, a_grads)
