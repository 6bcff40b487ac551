"""TorchScript, torch.compile, torch.export and ONNX of every neck and backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from registered import (
    BACKBONE_NAMES,
    MODULES,
    NECK_NAMES,
    SIZES,
    build,
    double_example,
    example,
    gradients,
    in_specs,
    tensors,
)

from fpn_plugins import NECKS

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


# necks that hand TorchScript a form of their own, which promises that they compile
SCRIPTABLE = [name for name in NECK_NAMES if hasattr(NECKS[name], "__prepare_scriptable__")]


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
