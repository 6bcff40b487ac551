"""List named `fpn_plugins.ViT`s: license and pixels of their weights, parameters, memory per megapixel in training.

python tools/benchmarks/foundation_networks.py --out tools/benchmarks/data/foundation_networks

Licenses and pixels are those that timm states. Memory is counted on tensors without values: what PyTorch keeps for the
backward pass of one image, parameters aside. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance, write_report
from torch import nn
from torch._subclasses import FakeTensorMode

from fpn_plugins import ViT
from fpn_plugins.analysis import count_cost
from fpn_plugins.analysis.components import Component
from fpn_plugins.commands.common import user_errors

NETWORKS = (
    *(f"vit_{size}_patch16_dinov3.lvd1689m" for size in ("small", "small_plus", "base", "large", "huge_plus")),
    *("eva02_tiny_patch14_224", "eva02_small_patch14_224", "eva02_base_patch14_224", "eva02_large_patch14_224"),
    *(f"vit_pe_spatial_{size}_patch16_512" for size in ("tiny", "small", "base")),
    *("vit_pe_spatial_large_patch14_448", "vit_pe_spatial_gigantic_patch14_448"),
    *(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large", "giant")),
    *("vit_base_patch16_siglip_512.v2_webli", "vit_large_patch16_siglip_512.v2_webli", "vit_base_patch16_224.mae"),
)
SIDE = 1024  # pixels
WAYS: dict[str, dict[str, Any]] = {
    "global": {},
    "windows": {"window_size": 16},
    "checkpointed": {"window_size": 16, "gradient_checkpointing": True},
}


def kept_bytes(network: ViT) -> int:
    """Count the bytes kept for the backward pass of a network on the meta device, with the attention of a CPU."""
    with FakeTensorMode():
        for owner in network.modules():
            for key, p in owner.named_parameters(recurse=False):
                setattr(owner, key, nn.Parameter(torch.empty(p.shape)))
        x = torch.empty(1, 3, SIDE, SIDE)

        def run() -> None:
            network(x)

        whole = Component("", "")
        return count_cost(network, run, "", (SIDE, SIDE), lambda _: whole).total().activation_bytes


def describe(name: str) -> dict[str, Any]:
    """Describe one network, with patches of 16 pixels as its detectors have."""
    import timm

    config = timm.get_pretrained_cfg(name)
    row: dict[str, Any] = {"name": name, "license": config.license, "bytes_per_megapixel": {}}
    row |= {"mean": list(config.mean), "std": list(config.std)}
    for way, arguments in WAYS.items():
        with torch.device("meta"):
            network = ViT(name=name, patch_size=16, **arguments).train()
        row["parameters"] = sum(p.numel() for p in network.parameters())
        row["bytes_per_megapixel"][way] = kept_bytes(network) * 1e6 / SIDE**2
    return row


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Foundation ViTs: licenses, pixels, memory",
        "",
        f"{measured(report)}.",
        "",
        "License, mean and standard deviation (of pixels from 0 to 1) are those that timm states for its copy of the",
        "weights; read the license itself. Memory is what PyTorch keeps for the backward pass per megapixel of a",
        f"{SIDE} x {SIDE} image in float32, parameters aside; counted, not measured. Windows have 16 x 16 tokens, four",
        'blocks are global; "checkpointed" has windows too, and recomputes each block. Patches of 16 pixels.',
        "",
        "| network | license of the weights | parameters, M | mean | std | global, MiB | windows, MiB | checkpointed |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    for row in report["networks"]:
        mean, std = (", ".join(f"{value:.3g}" for value in row[key]) for key in ("mean", "std"))
        memory = [f"{row['bytes_per_megapixel'][way] / 2**20:.0f}" for way in WAYS]
        cells = [f"`{row['name']}`", row["license"], f"{row['parameters'] / 1e6:.0f}", mean, std, *memory]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "[Which to take](guides/foundation_vits.md)."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Describe all networks and write both files."""
    parser = argparse.ArgumentParser(description="List named ViTs of fpn_plugins: licenses, pixels, memory")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--model", dest="networks", nargs="*", default=list(NETWORKS), help="timm's names")
    args = parser.parse_args()
    with user_errors():
        report: dict[str, Any] = {**provenance(["torch", "fpn_plugins", "timm"]), "networks": []}
        for name in args.networks:
            report["networks"].append(describe(name))
            print(report["networks"][-1], flush=True)
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
