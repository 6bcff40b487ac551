"""List the operators of exported ONNX files, and whether TensorRT has them, in their types, by its published table.

    python tools/benchmarks/onnx_operators.py detector.onnx [...]

``tensorrt_operators.json`` holds the operators and types of the table, and its address. The exit code is 1 if the file
needs another operator or type, or more candidates than `TopK` takes.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors
from fpn_plugins.extras import needed_for

# numbers of ONNX's types -> the table's names
TYPES = {1: "FP32", 2: "UINT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16", 16: "BF16"}
MOST_CANDIDATES = 3840
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


def obstacles(model: Any, table: Mapping[str, str]) -> set[str]:
    """Describe the nodes of a file that the table does not have, in this type or with so many candidates."""
    import onnx

    types = type_names(model)
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    found = set(operators(model.graph)) - set(table)
    for node in model.graph.node:
        kind = data_type(node, types)
        if kind and node.op_type in table and kind not in table[node.op_type].split(", "):
            found.add(f"{node.op_type} of {kind} (has {table[node.op_type]})")
        if node.op_type == "TopK" and node.input[1] in constants and constants[node.input[1]].max() >= MOST_CANDIDATES:
            found.add(f"TopK of {constants[node.input[1]].max()} candidates (has fewer than {MOST_CANDIDATES})")
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
    return [f"{path}: opset {opset}, {sum(found.values())} nodes", f"  {text}"], sorted(obstacles(model, table))


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
