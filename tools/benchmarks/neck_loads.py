"""Load weights of published code into the necks and backbones that only other code bases have, and compare the maps.

    python tools/benchmarks/neck_loads.py --sources FOLDER --out tools/benchmarks/data/neck_loads

Each network is built by its own code, small and with random weights; nothing is downloaded. FOLDER has clones of
github.com/lyuwenyu/RT-DETR (068dfde), Peterande/D-FINE (4a1f73a), ShihuaHuang95/DEIM (a9aa4ad), Atten4Vis/LW-DETR
(d5e6e6c), roboflow/rf-detr (35ac6ab), facebookresearch/Mask2Former (9b0651c; needs detectron2) and czczup/ViT-Adapter
(fd64a51; needs timm). Without its code, a row says so. Writes OUT.json and OUT.md. For mmdet's necks, see
``mmdet_necks.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance, write_report
from foundation_vits import difference, randomize
from neck_sources import SOURCES, STRIDES, Source, import_from, on_cpu
from torch import Tensor, nn

from fpn_plugins import BACKBONES, NECKS
from fpn_plugins.commands.common import user_errors

SIDE = 256  # pixels
METHOD = """\
Modules are built by the published code, small and with random weights of which none is trivial; their state dicts load
into ours of the same name as they are. Strict: a foreign key and a missing one are errors. Difference: the largest of
all outputs, relative to the largest value of each, in double precision; Mask2Former's decoder computes in single
precision. Maps are square: RT-DETR's positions on others are in another order than its tokens, ours are not.
[mmdet's necks](mmdet_necks.md) and [foundation ViTs](foundation_loads.md) have tables of their own."""


def loaded(source: Source) -> dict[str, Any]:
    """Load the weights of one published module, and compare the maps."""
    row: dict[str, Any] = {"code": source.code, "name": source.name, "on": source.reads}
    torch.manual_seed(0)
    try:
        network: nn.Module = source.build()
        if source.kind == "ViTAdapter":
            on_cpu()
    except ImportError as error:
        return {**row, "missing": str(error)}
    randomize(network)
    network, inputs = network.double().eval(), _inputs(source)
    positional = {} if source.kind in BACKBONES else {"in_channels": source.channels}
    ours = {**NECKS, **BACKBONES}[source.kind](**positional, **source.arguments).double().eval()
    weights = network.state_dict()
    with torch.no_grad():
        ours.load_state_dict(weights)
        pairs = list(zip(ours(inputs), source.run(network, inputs), strict=True))
    row |= {"keys": len(weights), "strict": _refuses(ours, weights)}
    return {**row, "difference": max(difference(got, expected) for got, expected in pairs)}


def _inputs(source: Source) -> Any:
    strides = STRIDES[source.reads]
    if not strides:
        return torch.randn(1, 3, SIDE, SIDE, dtype=torch.double)
    sides = [SIDE // stride for stride in strides] * (len(source.channels) // len(strides))
    return [torch.randn(1, c, side, side, dtype=torch.double) for c, side in zip(source.channels, sides, strict=True)]


def _refuses(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a foreign key and a missing one are errors."""
    last = next(key for key in reversed(weights) if key.endswith("weight"))
    fewer = {key: value for key, value in weights.items() if key != last}
    for wrong in ({**weights, "another.weight": weights[last]}, fewer):
        try:
            network.load_state_dict(wrong)
        except (RuntimeError, ValueError):
            continue
        return False
    return True


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = ["# Published weights of necks", "", f"{measured(report)}.", "", METHOD, ""]
    lines += ["| code | module | on | keys | loaded | strict | difference |", "|---|---|---|---:|---|---|---:|"]
    for row in report["loads"]:
        start = f"| {row['code']} | {row['name']} | {row['on']} |"
        if "missing" in row:
            lines.append(f"{start} | not measured: {row['missing']} | | |")
            continue
        strict = "yes" if row["strict"] else "no"
        lines.append(f"{start} {row['keys']} | yes | {strict} | {row['difference']:.1e} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Load weights of published code into necks of fpn_plugins")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--sources", type=Path, help="folder with clones of the published code")
    args = parser.parse_args()
    with user_errors():
        if args.sources is not None:
            import_from(args.sources)
        report: dict[str, Any] = {**provenance(["torch", "fpn_plugins"]), "loads": []}
        for source in SOURCES:
            report["loads"].append(loaded(source))
            print(report["loads"][-1], flush=True)
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
