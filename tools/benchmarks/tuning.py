"""Measure a training step of a ViT with its neck: frozen, with its maps on disk, with LoRA, and all of it.

python tools/benchmarks/tuning.py --out tools/benchmarks/data/tuning

Writes OUT.json and OUT.md. A step is forward, backward and AdamW, on random weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
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
COLD, WARM = "frozen, new images into a cache", "frozen, images from the cache"
MODES = ("frozen", COLD, WARM, "LoRA", "full")


def arguments_of(mode: str, depth: int, folder: Path) -> dict[str, Any]:
    """Arguments of the ViT in one of ``MODES``."""
    if mode in ("LoRA", "full"):
        return {"lora": {"rank": 8}} if mode == "LoRA" else {}
    cache = {"folder": folder, "max_bytes": 10e9}
    return {"frozen_stages": depth} | ({} if mode == "frozen" else {"feature_cache": cache})


def prepare(name: str, depth: int, side: int, mode: str, folder: Path) -> tuple[Callable[[], None], dict[str, int]]:
    """Build a step of a network of ``depth`` blocks, and count its trained parameters and bytes of optimizer state."""
    vit = ViT(name=name, depth=depth, **arguments_of(mode, depth, folder))
    model = Pyramid(vit, SimpleFeaturePyramid([spec.channels for spec in vit.feature_specs], 64)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    x = torch.randn(1, 3, side, side)

    def step() -> None:
        if mode == COLD:
            x.add_(1e-3)
        sum(m.square().mean() for m in model(x)).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    trained = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    disk = max((file.stat().st_size for file in folder.glob("*.safetensors")), default=0) if mode == WARM else 0
    return step, {"trained": trained, "state_bytes": sum(value.nbytes for value in tensors), "disk_bytes": disk}


def rows(name: str, depth: int, side: int, repeats: int) -> list[dict[str, Any]]:
    """Measure all modes in turn."""
    with tempfile.TemporaryDirectory() as folder:
        built = {mode: prepare(name, depth, side, mode, Path(folder)) for mode in MODES}
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
    by_mode = {row["mode"]: row for row in report["rows"]}
    for row in report["rows"]:
        peak, state = (f"{row[key] / 2**20:.0f}" for key in ("peak_bytes", "state_bytes"))
        lines.append(f"| {row['mode']} | {row['trained']} | {1e3 * row['seconds']:.0f} | {peak} | {state} |")
    factor = by_mode["frozen"]["seconds"] / by_mode[WARM]["seconds"]
    lines += [
        "",
        f"The cache (`feature_cache` of the backbone) makes a step {factor:.1f} times as fast once an image's map is "
        f"on disk, in {by_mode[WARM]['disk_bytes'] / 2**20:.2f} MiB per image here; the files were in the operating "
        "system's memory. The more blocks the network has beside neck and heads, the more it saves.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(
        description="Compare training steps of a frozen ViT, of its maps on disk, with LoRA, and of all of it"
    )
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
