"""List the operators of exported ONNX files, and whether TensorRT has them, as these files use them, by its table.

    python tools/benchmarks/onnx_operators.py detector.onnx [...]

``tensorrt_operators.json`` holds the operators and types of the published table, and its address; the restrictions in
its last column are below. The exit code is 1 if a file needs another opset, operator or type, meets a restriction, or
has more candidates than `TopK` takes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors
from fpn_plugins.extras import needed_for

# numbers of ONNX's types -> the table's names
TYPES = {1: "FP32", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16", 16: "BF16"}
MOST_CANDIDATES = 3840
OPSETS = (9, 20)
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
# operator -> number of the input that has to be a constant
CONSTANTS = {
    **{f"Reduce{name}": 1 for name in REDUCTIONS},
    **{"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1},
}
# operator -> attribute -> values that it may have; the first is the default
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "Resize": {
        "antialias": (0,),
        "coordinate_transformation_mode": (
            *("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
        ),
        "keep_aspect_ratio_policy": ("stretch",),
        "mode": ("nearest", "linear"),
    },
    "ScatterND": {"reduction": ("none",)},
}
# operators of which the first output alone may be used
ONE_OUTPUT = ("LayerNormalization", "MaxPool")
TABLE = Path(__file__).with_name("tensorrt_operators.json")


def operators(graph: Any) -> Counter[str]:
    """Count the operators of a graph and of the graphs inside its nodes; those of other domains with their domain."""
    found: Counter[str] = Counter()
    for node in graph.node:
        found[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                found += operators(inner)
    return found


def data_type(node: Any, types: Mapping[str, str]) -> str:
    """Return the type of what a node computes with, in the table's words; "" if it is unknown."""
    if node.op_type in ("Constant", "ConstantOfShape"):
        return types.get(node.output[0], "")
    return types.get(node.input[node.op_type == "Where"] if node.input else "", "")


def type_names(model: Any) -> dict[str, str]:
    """Infer the type of every value of a graph."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    numbers = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)
    }
    numbers |= {value.name: value.data_type for value in graph.initializer}
    return {name: TYPES.get(number, "") for name, number in numbers.items()}


def constants(graph: Any) -> dict[str, Any]:
    """Collect the values of a graph that are constant, by name."""
    import onnx

    found = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    for node in graph.node:
        given = next((entry for entry in node.attribute if entry.name == "value"), None)
        if node.op_type == "Constant" and given is not None:
            found[node.output[0]] = onnx.numpy_helper.to_array(given.t)
    return found


def restrictions(node: Any, values: Mapping[str, Any]) -> Iterator[str]:
    """Describe what the table does not allow of a node, given the constants of its graph."""
    import onnx

    kind, inputs = node.op_type, list(node.input)
    number = CONSTANTS.get(kind, len(inputs))
    if number < len(inputs) and inputs[number] and inputs[number] not in values:
        yield f"{kind} by a computed {'axis' if kind == 'CumSum' else 'list of axes'}"
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    for name, allowed in CHOICES.get(kind, {}).items():
        given = attributes.get(name, allowed[0])
        if (given := given.decode() if isinstance(given, bytes) else given) not in allowed:
            yield f"{kind} with {name}={given!r} (has {', '.join(map(repr, allowed))})"
    if kind in ("AveragePool", "MaxPool") and set(attributes.get("dilations", [1])) != {1}:
        yield f"{kind} with dilations"
    if kind in ONE_OUTPUT and any(node.output[1:]):
        yield f"{kind} with more than one output"
    zero = inputs[2] if kind in ("QuantizeLinear", "DequantizeLinear") and len(inputs) > 2 else ""
    if zero and (zero not in values or values[zero].any()):
        yield f"{kind} with a zero point other than 0"
    if kind == "TopK" and inputs[1] in values and values[inputs[1]].max() >= MOST_CANDIDATES:
        yield f"TopK of {values[inputs[1]].max()} candidates (has fewer than {MOST_CANDIDATES})"


def obstacles(model: Any, table: Mapping[str, str], opset: int) -> set[str]:
    """Describe the nodes of a file that the table does not have, in this type or used like this."""
    types, values = type_names(model), constants(model.graph)
    found = set(operators(model.graph)) - set(table)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        found.add(f"opset {opset} (has {OPSETS[0]} to {OPSETS[1]})")
    for node in model.graph.node:
        kind = data_type(node, types)
        if kind and node.op_type in table and kind not in table[node.op_type].split(", "):
            found.add(f"{node.op_type} of {kind} (has {table[node.op_type]})")
        found.update(restrictions(node, values))
    return found


def lines(path: Path, table: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Describe the operators of a file; return the lines, and what the table lacks."""
    with needed_for("ONNX files"):
        import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's
        raise ValueError(f"{str(path)!r} is no ONNX file: {error}") from error
    found = operators(model.graph)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    text = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return [f"{path}: opset {opset}, {sum(found.values())} nodes", f"  {text}"], sorted(obstacles(model, table, opset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ONNX files")
    args = parser.parse_args()
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    with user_errors():
        wrong = []
        for path in args.files:
            text, missing = lines(path, table["supported"])
            print("\n".join(text))
            wrong += missing
        if wrong:
            raise ValueError(f"not in the table of TensorRT {table['version']}: {', '.join(sorted(set(wrong)))}")
        print(f"all are in the table of TensorRT {table['version']}: {table['source']}")


if __name__ == "__main__":
    main()
