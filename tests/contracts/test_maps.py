"""Maps of every neck and backbone: shapes, inputs, copies, modes, registration."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from inspect import signature
from itertools import pairwise

import pytest
import torch
from precision import assert_same_maps
from registered import (
    BACKBONE_ARGUMENTS,
    MODULES,
    ON_ONE_STRIDE,
    ON_THE_LAST_MAP,
    ROUNDS_DOWN,
    ROUNDS_DOWN_AT_ONCE,
    SIZES,
    build,
    each,
    example,
    in_specs,
    tensors,
)

from fpn_plugins import BACKBONES, NECKS, FeatureSpec, check_pyramid, level_names


def test_every_backbone_has_example_arguments():
    assert set(BACKBONE_ARGUMENTS) == set(BACKBONES)


@pytest.mark.parametrize("name", [n for n, kind in BACKBONES.items() if "pretrained" in signature(kind).parameters])
def test_no_pretrained_weights_may_be_none(name: str):
    """The toolboxes' configs write ``pretrained=None``."""
    BACKBONES[name](**{**BACKBONE_ARGUMENTS[name], "pretrained": None})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MODULES)
def test_shapes_equal_the_published_specs(name: str, size: tuple[int, int]):
    module = build(name)
    specs = module.out_specs(in_specs(name)) if name in NECKS else module.feature_specs
    assert all(isinstance(spec, FeatureSpec) for spec in specs)
    assert all(fine.stride <= coarse.stride for fine, coarse in pairwise(specs))
    assert len(set(level_names(specs))) == len(specs)  # only a map that is not a level may repeat a stride
    with torch.no_grad():
        maps = module(example(name, size))
    assert isinstance(maps, tuple)
    if name in ON_ONE_STRIDE:  # from which finer ones are made: as much image as its cells cover
        size = tuple(-(-side // stride) * stride for stride in [in_specs(name)[0].stride] for side in size)
    check_pyramid(maps, specs, size)
    for m, spec in zip(maps, specs, strict=True):  # these examples pad, so they round up
        exact = 0 if name in ROUNDS_DOWN_AT_ONCE else -1
        if name in ROUNDS_DOWN and (name not in NECKS or spec.stride > in_specs(name)[exact].stride):
            continue
        assert tuple(m.shape) == (2, spec.channels, *(-(-side // spec.stride) for side in size))


@pytest.mark.parametrize("name", MODULES)
def test_an_empty_batch_gives_empty_maps(name: str):
    """A process or a branch of a training may have no image."""
    module = build(name).eval()
    inputs = example(name)
    with torch.no_grad():
        expected = [(0, *m.shape[1:]) for m in module(inputs)]
        if name == "TimmHybrid":  # timm's encoder cannot
            with pytest.raises(ValueError, match="TimmHybrid takes at least one image"):
                module(inputs[:0])
            return
        assert [tuple(m.shape) for m in module(each(inputs, lambda x: x[:0]))] == expected


@pytest.mark.parametrize("name", MODULES)
def test_inputs_are_not_modified_and_get_gradients(name: str):
    module = build(name)
    inputs = example(name)
    before = each(inputs, torch.clone)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            module(inputs)
    leaves = each(inputs, lambda x: x.requires_grad_())
    sum(m.square().mean() for m in module(leaves)).backward()
    used = getattr(module, "in_indices", range(len(tensors(inputs))))
    used = used[-1:] if name in ON_THE_LAST_MAP else used
    for index, (now, then) in enumerate(zip(tensors(inputs), tensors(before), strict=True)):
        assert torch.equal(now, then)
        assert (now.grad is not None and bool(now.grad.any())) == (index in used)


@pytest.mark.parametrize("name", MODULES)
def test_train_and_eval_return_self(name: str):
    module = build(name)
    assert module.train() is module and module.training
    assert module.eval() is module and not module.training


@pytest.mark.parametrize("name", MODULES)
def test_the_same_seed_gives_the_same_module_and_evaluation_is_repeatable(name: str):
    """Nothing depends on what drew random numbers before."""
    modules = []
    for _ in range(2):
        torch.manual_seed(5)
        modules.append(build(name))
    inputs = example(name)
    with torch.no_grad():
        assert_same_maps(modules[0](inputs), modules[1](inputs), tolerance=0)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
@pytest.mark.parametrize("name", MODULES)
def test_copies_give_the_same_outputs_and_share_nothing(name: str, clone: Callable):
    module = build(name)
    inputs = example(name)
    with torch.no_grad():
        expected = module(inputs)
        copied = clone(module)
        assert_same_maps(copied(inputs), expected, tolerance=0)
        for parameter in copied.parameters():
            parameter.zero_()
        assert_same_maps(module(inputs), expected, tolerance=0)
