"""List the operators of exported ONNX files, and whether TensorRT has them by its published table.

    python tools/benchmarks/onnx_operators.py detector.onnx [...]

``tensorrt_operators.json`` holds the operators of the table and its address. The exit code is 1 if one is missing.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from fpn_plugins.commands.common import user_errors
from fpn_plugins.extras import needed_for

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


def lines(path: Path, supported: set[str]) -> tuple[list[str], list[str]]:
    """Describe the operators of a file; return the lines, and the operators that are missing."""
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
    missing = sorted(set(found) - supported)
    text = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    return [f"{path}: opset {opset}, {sum(found.values())} nodes", f"  {text}"], missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="ONNX files")
    args = parser.parse_args()
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    with user_errors():
        wrong = []
        for path in args.files:
            text, missing = lines(path, set(table["supported"]))
            print("\n".join(text))
            wrong += missing
        if wrong:
            raise ValueError(f"not in the table of TensorRT {table['version']}: {', '.join(sorted(set(wrong)))}")
        print(f"all are in the table of TensorRT {table['version']}: {table['source']}")


if __name__ == "__main__":
    main()
