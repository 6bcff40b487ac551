"""Training of every neck and backbone: gradients, checkpointing, hooks, no waiting for values."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from registered import (
    BACKBONE_NAMES,
    FOUNDATION,
    MODULES,
    NECK_NAMES,
    build,
    build_neck,
    double_example,
    example,
    gradients,
    tensors,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_gets_a_gradient(name: str):
    module = build(name).train()
    sum(m.square().mean() for m in module(example(name))).backward()
    without = [key for key, p in module.named_parameters() if p.grad is None or not torch.count_nonzero(p.grad)]
    assert without == []


class AsksForValues(TorchDispatchMode):
    """Operations that a GPU's program would have to wait for, because Python or a size depends on what they find."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        by_number = func.overloadpacket is torch.ops.aten.index and all(
            index is None or index.dtype != torch.bool for index in args[1]
        )
        if waits and not by_number:
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODULES)
def test_nothing_waits_for_what_is_computed(name: str):
    """Forward and backward."""
    module = build(name).train()
    with AsksForValues() as asked:
        torch.ones(2).nonzero()
    assert asked.found == {"aten.nonzero.default"}  # so that what follows can fail
    with AsksForValues() as asked:
        sum(m.square().mean() for m in module(example(name))).backward()
    assert asked.found == set()


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_hooks_of_every_layer_run(name: str):
    """Whatever stands for the calls of layers that nobody listens to."""
    module = build(name).double()
    x = double_example(name)
    layers = {key: m for key, m in module.named_modules() if not list(m.children()) and list(m.parameters())}
    for mode in (torch.enable_grad, torch.no_grad):
        seen: set[str] = set()
        with mode():
            expected = module(x)
            hooks = [m.register_forward_hook(lambda *_, key=key, seen=seen: seen.add(key)) for key, m in layers.items()]
            assert_same_maps(module(x), expected)
        for hook in hooks:
            hook.remove()
        assert set(layers) == seen


@pytest.mark.parametrize("name", NECK_NAMES)
def test_gradient_checkpointing_changes_nothing_but_what_is_kept(name: str):
    """Outputs, gradients and what norms remember; kept for the backward pass is less than half, inputs aside."""
    plain = build(name).train()
    frugal = copy.deepcopy(plain)
    assert plain.gradient_checkpointing is False
    frugal.gradient_checkpointing = True
    results, kept = [], []
    inputs = example(name)
    for module in (plain, frugal):
        leaves = [x.clone().requires_grad_() for x in inputs]
        given = {t.untyped_storage().data_ptr() for t in (*leaves, *module.parameters(), *module.buffers())}
        saved: dict[int, int] = {}

        def keep(t: Tensor, given: set[int] = given, saved: dict[int, int] = saved) -> Tensor:
            if t.untyped_storage().data_ptr() not in given:
                saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            outputs = module(leaves)
        kept.append(sum(saved.values()))
        sum(m.square().mean() for m in outputs).backward()
        grads = [t.grad for t in (*leaves, *module.parameters()) if t.grad is not None]
        results.append([*outputs, *grads, *module.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("name", NECK_NAMES)
def test_every_neck_takes_gradient_checkpointing_as_an_argument(name: str):
    assert build_neck(name, gradient_checkpointing=True).gradient_checkpointing is True


@pytest.mark.parametrize("name", FOUNDATION)
def test_gradient_checkpointing_of_foundation_models_is_bit_equal(name: str):
    """Maps and gradients, with the same branches dropped."""
    plain = build(name, drop_path_rate=0.3).train()
    frugal = build(name, drop_path_rate=0.3, gradient_checkpointing=True).train()
    frugal.load_state_dict(plain.state_dict())
    x, results = example(name), []
    for module in (plain, frugal):
        torch.manual_seed(0)
        maps = module(x)
        sum(m.square().mean() for m in maps).backward()
        results.append([*maps, *(p.grad for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["CTResNetNeck", "DilatedEncoder", "PAFPN", "ViT"])
def test_gradient_checkpointing_works_under_torch_compile(name: str):
    """Outputs, gradients and what norms remember; kept for the backward pass is less than half, inputs aside."""
    torch._dynamo.reset()
    plain = build(name).double().train()
    frugal = build(name, gradient_checkpointing=True).double().train()
    frugal.load_state_dict(plain.state_dict())
    eager, inputs, kept = copy.deepcopy(plain), double_example(name, (64, 96)), []
    for module in (plain, frugal):
        given = {t.untyped_storage().data_ptr() for t in (*tensors(inputs), *module.parameters(), *module.buffers())}
        saved: dict[int, int] = {}

        def keep(t: Tensor, given: set[int] = given, saved: dict[int, int] = saved) -> Tensor:
            if t.untyped_storage().data_ptr() not in given:
                saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        compiled = torch.compile(module, fullgraph=True, backend="aot_eager_decomp_partition")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            outputs = compiled(inputs)
        kept.append(sum(saved.values()))
    expected = eager(inputs)
    assert_same_maps(outputs, expected)
    assert_same_gradients(gradients(frugal, outputs), gradients(eager, expected))
    assert all(torch.allclose(a, b) for a, b in zip(frugal.buffers(), eager.buffers(), strict=True))
    assert kept[1] < kept[0] / 2
