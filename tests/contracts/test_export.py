"""TorchScript, torch.compile, torch.export and ONNX of every neck and backbone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from registered import (
    BACKBONE_HOSTS,
    FAMILIES,
    FEWER,
    MODULES,
    NECK_NAMES,
    SIZES,
    VARIANTS,
    build,
    double_example,
    example,
    gradients,
    tensors,
)
from torch import nn
from versions import EXPORTS

from fpn_plugins import BACKBONES, NECKS

# two cells or more at every level; multiples of 32 that are no multiples of 128, and sides that no stride divides
TRACED_SIZE = (145, 203)
EXPORTED_SIZES = [(160, 224), (224, 352), (129, 203), (175, 133)]
COMPILED_SIZES = [*EXPORTED_SIZES, (192, 160), (166, 150), (256, 256), (257, 289), (150, 230), (288, 160)]


class Case(NamedTuple):
    """Registered class with arguments beside its example's."""

    name: str
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        """Build it as the other contract tests do."""
        return build(self.name, **self.arguments)


def case_id(case: Case) -> str:
    """Name the class and what differs from its example."""
    return "-".join([case.name, *map(str, case.arguments.values())])


CASES = [
    *(
        pytest.param(Case(name, FEWER.get(name, {})), marks=BACKBONE_HOSTS.get(name, ()), id=name)
        for name in (*NECK_NAMES, *sorted(BACKBONES), *VARIANTS, *FAMILIES)
    ),
    # options whose own code depends on sizes
    Case("FPN", {"extra_levels": {"num_levels": 2}}),
    Case("FPN", {"upsample_mode": "deconv"}),
    Case("PAFPN", {"upsample_mode": {"type": "carafe", "kernel_size": 3}}),
    Case("BFP", {"refine": "conv", "refine_index": 0}),
    Case("BFP", {"refine": None, "refine_index": 3}),
    Case("HRFPN", {"pooling": "max"}),
    Case("BiFPN", {"num_repeats": 1, "pool_padding": "symmetric"}),
    Case("BiFPN", {"num_repeats": 1, "num_extra_levels": 0, "graph": "quad"}),
]

# necks with sequences, generators of modules, or lists of modules and of maps side by side; with TorchScript's message
# for the first that it meets
NOT_SCRIPTABLE = {
    "BiFPN": "does not have a statically determinable length",
    "CSPNeXtPAFPN": "nn.ModuleList",
    "CTResNetNeck": "python value of type 'float'",
    "CSPPAFPN": "nn.ModuleList",
    "MSDeformAttnPixelDecoder": "Unknown type name 'Sizes'",
    "DyHead": "python value of type 'float' cannot be used",
    "FPG": "Unknown builtin op: aten::sym_min",
    "HybridEncoder": "nn.ModuleList",
    "MultiScaleProjector": "Sequence",
    "NASFCOSFPN": "Sequence",
    "NASFPN": "Sequence",
    "PanopticFPN": "Sequence",
    "RFP": "torch.jit.script does not compile DetectoRSResNet",
    "SSDNeck": "Sequence",
    "SimpleFeaturePyramid": "Sequence",
    "YOLOV3Neck": "Unknown type name",
}


# necks that hand TorchScript a form of their own, which promises that they compile
SCRIPTABLE = [name for name in NECK_NAMES if hasattr(NECKS[name], "__prepare_scriptable__")]


@pytest.mark.parametrize("name", sorted(NOT_SCRIPTABLE))
def test_what_is_listed_as_not_scriptable_is_not(name: str):
    """So that the list cannot outlive its reason."""
    with pytest.raises((RuntimeError, TypeError, ValueError), match=re.escape(NOT_SCRIPTABLE[name])):
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


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_compiles_to_at_most_four_graphs_over_ten_sizes(case: Case):
    """Fixed sizes, then one dynamic side, then both: a fourth graph would depend on remainders of sizes."""
    torch._dynamo.reset()
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    module = case.build()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    with torch.no_grad():
        for size in COMPILED_SIZES:
            inputs = example(case.name, size)
            assert_same_maps(compiled(inputs), module(inputs))
    assert len(graphs) <= 4


@pytest.mark.parametrize("case", CASES, ids=case_id)
@EXPORTS
def test_one_export_equals_eager_at_every_size(case: Case, tmp_path: Path):
    """PyTorch's program, whose guards refuse sizes that the trace did not foresee, and ONNX, which has no guards."""
    import onnxruntime

    module = case.build()
    inputs = example(case.name, TRACED_SIZE)
    program = torch.export.export(module, (inputs,), dynamic_shapes=(any_size(inputs),))
    # without the optimizer, which takes a fifth of the time; `tests/export` has it
    torch.onnx.export(program, (inputs,), tmp_path / "module.onnx", dynamo=True, verbose=False, optimize=False)
    session = onnxruntime.InferenceSession(tmp_path / "module.onnx", providers=["CPUExecutionProvider"])
    exported = program.module()
    names = [node.name for node in session.get_inputs()]
    for size in EXPORTED_SIZES:
        inputs = example(case.name, size)
        with torch.no_grad():
            expected = module(inputs)
            assert_same_maps(exported(inputs), expected)
        got = session.run(None, {key: x.numpy() for key, x in zip(names, tensors(inputs), strict=True)})
        assert_same_maps([torch.from_numpy(m) for m in got], expected)


def any_size(inputs: Any) -> Any:
    """Declare height and width of each map as dynamic, each by itself; a fixed one is an error at export."""
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    return sides if isinstance(inputs, torch.Tensor) else tuple(sides for _ in inputs)
