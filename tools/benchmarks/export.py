"""Tabulate what each registered class exports, scripts and compiles to, at sizes that no stride divides.

    python tools/benchmarks/export.py                  # every class
    python tools/benchmarks/export.py FPN NASFPN

One ``torch.export`` program and one ONNX file with dynamic height and width, and one TorchScript module, are compared
with eager mode at every size (largest difference relative to the largest value); the last column counts the graphs of
``torch.compile(fullgraph=True)`` over ten sizes. Classes have the examples of the contract tests.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance
from torch import Tensor, nn

from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.checks import one_of
from fpn_plugins.commands.common import user_errors

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))  # the examples

TRACED_SIZE = (145, 203)
SIZES = [(160, 224), (224, 352), (129, 203), (175, 133)]
TEN_SIZES = [*SIZES, (192, 160), (166, 150), (256, 256), (257, 289), (150, 230), (288, 160)]
Example = Callable[[tuple[int, int]], Any]


def difference(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of two pyramids relative to the largest value; infinite if shapes differ."""
    if [m.shape for m in got] != [m.shape for m in expected]:
        return float("inf")
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, expected, strict=True))


def exported(module: nn.Module, example: Example) -> tuple[str, str]:
    """Describe the program and the ONNX file of one trace."""
    inputs = example(TRACED_SIZE)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    shapes = sides if isinstance(inputs, Tensor) else tuple(sides for _ in inputs)
    program = torch.export.export(module, (inputs,), dynamic_shapes=(shapes,))
    return compared(program.module(), module, example), compared(onnx_session(program, inputs), module, example)


def onnx_session(program: Any, inputs: Any) -> Callable[[Any], list[Tensor]]:
    """Export a program to ONNX and return a function that runs it with onnxruntime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "module.onnx"
        torch.onnx.export(program, (inputs,), file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Any) -> list[Tensor]:
        maps = [inputs] if isinstance(inputs, Tensor) else inputs
        feed = {name: m.numpy() for name, m in zip(names, maps, strict=True)}
        return [torch.from_numpy(m) for m in session.run(None, feed)]

    return run


def compared(other: Callable[[Any], Any], module: nn.Module, example: Example) -> str:
    """Compare with eager mode at every size."""
    worst = 0.0
    for size in SIZES:
        inputs = example(size)
        worst = max(worst, difference(other(inputs), module(inputs)))
    return f"{worst:.0e}"


def scripted(module: nn.Module, example: Example) -> str:
    """Compare the scripted module with eager mode, or say that there is none."""
    try:
        script = torch.jit.script(module)
    except (RuntimeError, ValueError, TypeError, AttributeError):  # TorchScript has no error of its own
        return "-"
    return compared(lambda inputs: script(inputs if isinstance(inputs, Tensor) else list(inputs)), module, example)


def graphs(module: nn.Module, example: Example) -> str:
    """Count the graphs of ``torch.compile`` over ten sizes."""
    torch._dynamo.reset()
    count = 0

    def backend(graph: Any, _: Any) -> Any:
        nonlocal count
        count += 1
        return graph.forward

    compiled = torch.compile(module, fullgraph=True, backend=backend)
    for size in TEN_SIZES:
        compiled(example(size))
    return str(count)


def row(name: str) -> str:
    """Describe one class as a line of the table."""
    import registered

    torch.manual_seed(0)
    module = registered.build(name)

    def example(size: tuple[int, int]) -> Any:
        return registered.example(name, size)

    with torch.no_grad():
        program, onnx = exported(module, example)
        cells = [name, program, onnx, scripted(module, example), graphs(module, example)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*NECKS, *BACKBONES]
    parser.add_argument("names", nargs="*", default=known, metavar="CLASS", help="registered classes; all by default")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with user_errors():
        for name in args.names:
            one_of("CLASS", name, known)
        print(measured(provenance(["torch", "onnx", "onnxruntime", "fpn_plugins"])))
        print("\n| class | torch.export | ONNX | TorchScript | graphs over ten sizes |\n|---|---|---|---|---|")
        for name in args.names:
            print(row(name), flush=True)


if __name__ == "__main__":
    main()
