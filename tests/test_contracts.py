"""What every neck and every backbone promises, over the registries: a new class is covered by being registered."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_near_maps, assert_same_gradients, assert_same_maps
from registered import (
    BACKBONE_ARGUMENTS,
    BACKBONE_NAMES,
    BEHIND_A_NECK,
    MODULES,
    NECK_NAMES,
    ON_ONE_MAP,
    ON_THE_LAST_MAP,
    ROUNDS_DOWN,
    SINGLE_PRECISION_MAPS,
    SIZES,
    TINY_ENCODER,
    VIT_PARTS,
    build,
    build_neck,
    double_example,
    each,
    example,
    gradients,
    in_specs,
    tensors,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fpn_plugins import BACKBONES, NECKS, FeatureSpec, check_pyramid, level_names


def test_every_backbone_has_example_arguments():
    assert set(BACKBONE_ARGUMENTS) == set(BACKBONES)


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
    if name in ON_ONE_MAP:  # from which finer ones are made: as much image as its cells cover
        size = tuple(-(-side // stride) * stride for stride in [in_specs(name)[0].stride] for side in size)
    check_pyramid(maps, specs, size)
    for m, spec in zip(maps, specs, strict=True):  # these examples pad, so they round up
        if name in ROUNDS_DOWN and (name in BACKBONES or spec.stride > in_specs(name)[-1].stride):
            continue
        assert tuple(m.shape) == (2, spec.channels, *(-(-side // spec.stride) for side in size))


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_gets_a_gradient(name: str):
    module = build(name).train()
    sum(m.square().mean() for m in module(example(name))).backward()
    without = [key for key, p in module.named_parameters() if p.grad is None or not torch.count_nonzero(p.grad)]
    assert without == []


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


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_channels_last_gives_the_same_and_is_kept(name: str, train: bool):
    module = build(name).double().train(train)
    inputs = double_example(name)
    expected = module(inputs)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    got = last(each(inputs, lambda x: x.contiguous(memory_format=torch.channels_last)))
    assert_same_maps(got, expected)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in got)
    assert all(m.is_contiguous() for m in expected)  # mmcv's RoIAlign reads any map as if it were


@pytest.mark.parametrize("name", MODULES)
def test_bfloat16_autocast_stays_near(name: str):
    """bfloat16 has 8 bits, 0.4 %, of which each layer loses some; gradients stay in single precision."""
    module = build(name)
    inputs = example(name)
    if name in BEHIND_A_NECK:  # whose maps are bfloat16 already
        inputs = each(inputs, lambda x: x.bfloat16().float())
    expected = module(inputs)
    if name in BEHIND_A_NECK:
        inputs = each(inputs, torch.Tensor.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = module(inputs)
        sum(m.float().square().mean() for m in got).backward()
        with torch.no_grad():  # other forms of attention
            assert_near_maps(module(inputs), expected, tolerance=0.15)
    assert any(m.dtype == torch.bfloat16 for m in got) or name in SINGLE_PRECISION_MAPS
    assert_near_maps(got, expected, tolerance=0.15)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters())


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


# necks that hand TorchScript a form of their own, which promises that they compile
SCRIPTABLE = [name for name in NECK_NAMES if hasattr(NECKS[name], "__prepare_scriptable__")]
# necks with sequences, generators of modules, or lists of modules and of maps side by side; with TorchScript's message
# for the first that it meets
NOT_SCRIPTABLE = {
    "BFP": "has no attribute or method '__call__'",
    "BiFPN": "does not have a statically determinable length",
    "CSPPAFPN": "Sequence",
    "NASFPN": "Sequence",
    "PanopticFPN": "Sequence",
    "SimpleFeaturePyramid": "Sequence",
}


@pytest.mark.parametrize("name", sorted(NOT_SCRIPTABLE))
def test_what_is_listed_as_not_scriptable_is_not(name: str):
    """So that the list cannot outlive its reason."""
    with pytest.raises(RuntimeError, match=NOT_SCRIPTABLE[name]):
        torch.jit.script(build(name))


@pytest.mark.parametrize("name", SCRIPTABLE)
def test_scripts_to_the_same_on_lists(name: str, tmp_path: Path):
    """Saved and loaded, without Python; the neck itself stays as it was."""
    neck = build(name).double()
    torch.jit.script(neck).save(tmp_path / "neck.pt")
    scripted = torch.jit.load(tmp_path / "neck.pt")
    for size in SIZES:
        inputs = double_example(name, size)
        outputs = neck(inputs)
        assert isinstance(outputs, tuple)
        assert_same_maps(scripted(list(inputs)), outputs)


@pytest.mark.parametrize("name", MODULES)
def test_compiles_without_graph_breaks(name: str):
    """Forward and backward; `aot_eager` traces as the default backend does, without its compiler."""
    torch._dynamo.reset()
    module = build(name).double()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = double_example(name, (64, 96))
    got, expected = compiled(inputs), module(inputs)
    assert_same_maps(got, expected)
    assert_same_gradients(gradients(module, got), gradients(module, expected))


def coarsest_stride(name: str) -> int:
    """Of the maps that a neck takes and gives, or 32: dynamic sizes are multiples of it."""
    if name not in NECKS:
        return 32
    return max(spec.stride for spec in (*in_specs(name), *build(name).out_specs(in_specs(name))))


def dynamic_sides(strides: Sequence[int], coarsest: int) -> tuple[dict[int, Any], ...]:
    """Sides of maps at ``strides`` for an image that is any multiple of ``coarsest``."""
    height, width = torch.export.Dim("height", min=2, max=64), torch.export.Dim("width", min=2, max=64)
    factors = [coarsest // stride for stride in strides]
    return tuple({2: f * height if f > 1 else height, 3: f * width if f > 1 else width} for f in factors)


# adaptive max-pooling fixes the sizes it is traced with, and has no ONNX operator
NOT_EXPORTABLE = {"BFP"}
EXPORTABLE = [*sorted(set(NECKS) - NOT_EXPORTABLE), *BACKBONE_NAMES]


@pytest.mark.parametrize("name", sorted(NOT_EXPORTABLE))
def test_what_is_listed_as_not_exportable_is_not(name: str):
    """So that the list cannot outlive its reason."""
    sides = dynamic_sides([spec.stride for spec in in_specs(name)], 32)
    with pytest.raises(Exception, match="Constraints violated"):
        torch.export.export(build(name), (example(name, (128, 96)),), dynamic_shapes=(sides,))


@pytest.mark.parametrize("name", EXPORTABLE)
def test_exports_with_dynamic_height_and_width(name: str):
    module = build(name).double()
    strides = [spec.stride for spec in in_specs(name)] if name in NECKS else [1, 32]
    unit = coarsest_stride(name)
    sides = dynamic_sides(strides, unit)
    program = torch.export.export(
        module, (double_example(name, (4 * unit, 3 * unit)),), dynamic_shapes=(sides if name in NECKS else sides[0],)
    )
    for size in ((2 * unit, 5 * unit), (6 * unit, 2 * unit)):
        inputs = double_example(name, size)
        with torch.no_grad():
            assert_same_maps(program.module()(inputs), module(inputs))


@pytest.mark.parametrize("name", EXPORTABLE)
def test_onnx_equals_eager(name: str, tmp_path: Path):
    import onnxruntime

    module = build(name)
    unit = coarsest_stride(name)
    file = tmp_path / "module.onnx"
    strides = [spec.stride for spec in in_specs(name)] if name in NECKS else [1]
    sides = dynamic_sides(strides, unit)
    shapes = sides if name in NECKS else sides[0]
    inputs = example(name, (3 * unit, 2 * unit), batch=1)
    torch.onnx.export(module, (inputs,), file, dynamo=True, dynamic_shapes=(shapes,), verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in ((3 * unit, 2 * unit), (2 * unit, 4 * unit)):
        inputs = example(name, size, batch=1)
        names = [node.name for node in session.get_inputs()]
        got = session.run(None, {key: x.numpy() for key, x in zip(names, tensors(inputs), strict=True)})
        with torch.no_grad():
            assert_same_maps([torch.from_numpy(m) for m in got], module(inputs))


@pytest.mark.parametrize("name", [name for name in NECK_NAMES if NECKS[name].__module__.startswith("fpn_plugins.")])
def test_state_dict_keys_of_necks_are_pinned_by_their_own_tests(name: str):
    """Published checkpoints depend on them."""
    module = NECKS[name].__module__.rpartition(".")[2]
    tests = next(path for path in Path(__file__).parents if path.name == "tests")
    assert f'assert_pinned("{name}", ' in (tests / f"necks/test_{module}.py").read_text()


def timms_keys() -> set[str]:
    """Whatever timm names them, below ``model``."""
    import timm

    theirs = timm.create_model("resnet10t", features_only=True, out_indices=(1, 2, 3, 4))
    return {f"model.{key}" for key in theirs.state_dict()}


def swins_keys() -> set[str]:
    """The official names."""
    linear = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    blocks = [f"layers.{i}.blocks.{j}" for i, j in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))]
    places = [f"{block}.{part}" for block in blocks for part in linear]
    places += ["patch_embed.proj", "patch_embed.norm", *(f"norm{i}" for i in range(4))]
    places += [f"layers.{i}.downsample.norm" for i in range(3)]
    keys = {f"{place}.{part}" for place in places for part in ("weight", "bias")}
    keys |= {f"layers.{i}.downsample.reduction.weight" for i in range(3)}
    return keys | {f"{block}.attn.relative_position_bias_table" for block in blocks}


def vit_keys(**arguments: Any) -> set[str]:
    """Those of the ViT, below ``vit``; they are pinned as its own."""
    return {f"vit.{key}" for key in BACKBONES["ViT"](**arguments).state_dict()}


def hybrid_keys() -> set[str]:
    """timm's, below ``model``, without the classifier."""
    import timm

    return {f"model.{key}" for key in timm.create_model("vit_small_r26_s32_224", **TINY_ENCODER).state_dict()} - {
        "model.head.weight",
        "model.head.bias",
    }


def affine(*names: str) -> set[str]:
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")}


def vit_block(name: str) -> set[str]:
    layers = affine(*(f"{name}.{part}" for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")))
    return layers | {f"{name}.attn.rel_pos_h", f"{name}.attn.rel_pos_w"}


MVIT_PARTS = (
    "norm1",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    *(f"attn.{p}" for p in ("qkv", "proj", "norm_q", "norm_k", "norm_v")),
)


def mvit_block(name: str) -> set[str]:
    pooling = {f"{name}.attn.{key}" for key in ("rel_pos_h", "rel_pos_w", *(f"pool_{p}.weight" for p in "qkv"))}
    return pooling | affine(*(f"{name}.{part}" for part in MVIT_PARTS))


BACKBONE_KEYS: dict[str, Callable[[], set[str]]] = {
    "MultiDepthViT": lambda: (
        vit_keys(**VIT_PARTS)
        | {f"resamples.{place}.{part}" for place in ("0.0", "0.1", "0.3", "1.0") for part in ("weight", "bias")}
    ),
    "HybridCNNViT": lambda: (
        {f"cnn.{key}" for key in timms_keys()}
        | {"norm.weight", "norm.bias"}
        | vit_keys(**TINY_ENCODER, use_rel_pos=False, global_block_indices=())
    ),
    "TimmHybrid": hybrid_keys,
    "TimmBackbone": timms_keys,
    "Swin": swins_keys,
    "ImagePyramid": lambda: {f"backbone.{key}" for key in timms_keys() if ".layer4." not in key},
    "MViT": lambda: {
        *affine("patch_embed.proj", *(f"norms.{i}" for i in range(4)), *(f"blocks.{i}.proj" for i in (1, 3, 5))),
        *(key for i in range(7) for key in mvit_block(f"blocks.{i}")),
    },
    "ViT": lambda: {"pos_embed", *affine("patch_embed.proj"), *(k for i in range(2) for k in vit_block(f"blocks.{i}"))},
}


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_state_dict_keys_of_backbones_are_pinned(name: str):
    assert set(build(name).state_dict()) == BACKBONE_KEYS[name]()
