"""Measure a training step of a ViT with its neck: frozen, with LoRA, and all of it.

python tools/benchmarks/tuning.py --out tools/benchmarks/data/tuning

Writes OUT.json and OUT.md. A step is forward, backward and AdamW, on random weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance, write_report
from timing import interleaved_seconds, peak_extra_bytes

from fpn_plugins import Pyramid, SimpleFeaturePyramid, ViT
from fpn_plugins.commands.common import user_errors

DEPTH = 6  # blocks


def prepare(name: str, depth: int, side: int, mode: str) -> tuple[Callable[[], None], dict[str, int]]:
    """Build a step of a network of ``depth`` blocks, and count its trained parameters and bytes of optimizer state."""
    arguments: dict[str, Any] = {"frozen": {"frozen_stages": depth}, "LoRA": {"lora": {"rank": 8}}, "full": {}}[mode]
    vit = ViT(name=name, depth=depth, **arguments)
    model = Pyramid(vit, SimpleFeaturePyramid([spec.channels for spec in vit.feature_specs], 64)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    x = torch.randn(1, 3, side, side)

    def step() -> None:
        sum(m.square().mean() for m in model(x)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    trained = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    return step, {"trained": trained, "state_bytes": sum(value.nbytes for value in tensors)}


def rows(name: str, depth: int, side: int, repeats: int) -> list[dict[str, Any]]:
    """Measure the three in turn."""
    built = {mode: prepare(name, depth, side, mode) for mode in ("frozen", "LoRA", "full")}
    seconds = interleaved_seconds({mode: step for mode, (step, _) in built.items()}, repeats)
    return [
        {
            "mode": mode,
            "seconds": statistics.median(seconds[mode]),
            "peak_bytes": peak_extra_bytes(partial(step)),
            **counts,
        }
        for mode, (step, counts) in built.items()
    ]


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Frozen, LoRA, or all of a ViT",
        "",
        f"{measured(report)}.",
        "",
        f"One training step (forward, backward, AdamW) of `{report['name']}` with {report['depth']} blocks and "
        f"`SimpleFeaturePyramid`, {report['side']} x {report['side']} pixels, batch 1, fp32; medians of "
        f"{report['repeats']} interleaved runs. Memory is the peak beyond weights and optimizer state. CPU figures.",
        "",
        "| backbone | trained parameters of the ViT | step, ms | peak, MiB | optimizer state with the neck's, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in report["rows"]:
        peak, state = (f"{row[key] / 2**20:.0f}" for key in ("peak_bytes", "state_bytes"))
        lines.append(f"| {row['mode']} | {row['trained']} | {1e3 * row['seconds']:.0f} | {peak} | {state} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Compare training steps of a frozen ViT, with LoRA, and of all of it")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument(
        "--model", dest="name", default="vit_small_plus_patch16_dinov3", help="timm's name of the network"
    )
    parser.add_argument("--images", dest="side", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with user_errors():
        settings = {"name": args.name, "depth": DEPTH, "side": args.side, "repeats": args.repeats}
        report = {**provenance(["torch", "fpn_plugins", "timm", "peft"]), **settings, "rows": rows(**settings)}
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
