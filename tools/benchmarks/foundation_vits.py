"""Compare named `fpn_plugins.ViT`s with timm's networks, and their time and memory also with Detectron2's ViT.

python tools/benchmarks/foundation_vits.py --out tools/benchmarks/data/foundation_vits

Writes OUT.json and OUT.md. Ours and timm's have the same random weights; no weights are downloaded.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance, write_report
from timing import interleaved_seconds, median_ratio, peak_extra_bytes
from torch import Tensor, nn

from fpn_plugins import ViT
from fpn_plugins.commands.common import user_errors

FAMILIES = (
    *("vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"),
    *("eva02_tiny_patch14_224", "eva02_base_patch14_224", "vit_pe_core_tiny_patch16_384"),
    *("vit_pe_spatial_tiny_patch16_512", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_256"),
)
GRIDS = ((16, 16), (12, 20), (21, 8))  # rows and columns of tokens
GLOBAL_BLOCKS = (2, 5, 8, 11)
MODES = ("inference", "training")
DETECTRON2 = ("detectron2", "detectron2_relative")


class Theirs(nn.Module):
    """timm's network as a backbone: its map after the last block, with the final norm."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to one map ``B C h w``."""
        last = [len(self.network.blocks) - 1]
        return tuple(self.network.forward_intermediates(x, indices=last, norm=True, intermediates_only=True))


def randomize(network: nn.Module) -> None:
    """Give every parameter values that matter: factors around 1, biases and tokens, weights that keep the scale."""
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.dim() == 1 and (name.endswith("weight") or "gamma" in name):
                p.uniform_(0.5, 1.5)
            elif p.dim() == 1 or "token" in name or name == "pos_embed":
                p.normal_(std=0.3)
            else:
                p.normal_(std=p[0].numel() ** -0.5)


class Detectron2s(nn.Module):
    """Detectron2's ViT of the sizes of a named one: windows of 14 x 14 tokens, four global blocks, no rotary positions.

    Images have ``side`` pixels on a side; ``use_rel_pos`` adds relative positions, as in its ViTDet configs.
    """

    def __init__(self, like: ViT, side: int, use_rel_pos: bool) -> None:
        super().__init__()
        from detectron2.modeling.backbone.vit import ViT as Detectron2ViT

        design = like.design
        sizes = {"img_size": side, "patch_size": design.patch_size, "embed_dim": design.embed_dim}
        blocks = {"depth": design.depth, "num_heads": design.num_heads, "use_rel_pos": use_rel_pos}
        windows = [index for index in range(design.depth) if index not in GLOBAL_BLOCKS]
        self.network = Detectron2ViT(**sizes, **blocks, window_size=14, window_block_indexes=windows)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``B 3 H W`` to one map ``B C h w``."""
        return tuple(self.network(x).values())


def pair(name: str, dtype: torch.dtype, **windows: Any) -> tuple[ViT, Theirs]:
    """Build both networks with the same weights; timm computes rotary positions in single precision in any case."""
    import timm

    network = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    randomize(network)
    ours = ViT(name=name, **windows)
    ours.load_weights(network.state_dict())
    theirs = Theirs(network.to(dtype))
    if getattr(network, "rope", None) is not None:
        network.rope.float()
    return ours.to(dtype).eval(), theirs.eval()


def difference(got: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((got - expected).abs().max() / expected.abs().max())


def parity(name: str, grid: Sequence[int], dtype: torch.dtype, windowed: bool) -> dict[str, Any]:
    """Compare the maps, and the gradients of the image.

    If ``windowed``, all blocks of ours attend in windows of which one contains the map, so the results are the same.
    """
    torch.manual_seed(0)
    windows = {"window_size": max(grid), "global_block_indices": ()} if windowed else {}
    ours, theirs = pair(name, dtype, **windows)
    results = []
    x = torch.randn(1, 3, *(side * ours.patch_size for side in grid), dtype=dtype)
    for network in (ours, theirs):
        image = x.clone().requires_grad_()
        (m,) = network(image)
        (m * torch.linspace(-1, 1, m.numel(), dtype=dtype).view(m.shape)).sum().backward()
        results.append((m.detach(), image.grad))
    forward, backward = (difference(a, b) for a, b in zip(*results, strict=True))
    row = {"name": name, "grid": list(grid), "dtype": str(dtype).split(".")[1], "windowed": windowed}
    return {**row, "map": forward, "gradient": backward}


def run(network: nn.Module, x: Tensor, training: bool) -> None:
    """Run one forward pass, or forward and backward."""
    with torch.set_grad_enabled(training):
        maps = network(x)
        if training:
            sum(m.sum() for m in maps).backward()
    network.zero_grad()


def cost(name: str, side: int, training: bool, repeats: int) -> dict[str, Any]:
    """Time ours, ours with windows, timm's and Detectron2's in turn, and measure the peaks of their memory."""
    ours, theirs = pair(name, torch.float32)
    windows = ViT(name=name, window_size=16, global_block_indices=GLOBAL_BLOCKS)
    networks: dict[str, nn.Module] = {"ours": ours, "timm": theirs, "windows": windows}
    networks |= {
        key: Detectron2s(ours, side, relative) for key, relative in zip(DETECTRON2, (False, True), strict=True)
    }
    x = torch.randn(1, 3, side, side)
    jobs: dict[str, Callable[[], None]] = {key: partial(run, net, x, training) for key, net in networks.items()}
    seconds = interleaved_seconds(jobs, repeats, warm_up=int(side < 1024), clock=time.process_time)
    return {
        "side": side,
        "mode": MODES[training],
        "repeats": repeats,
        "seconds": {key: statistics.median(times) for key, times in seconds.items()},
        "time_ratio": {
            "timm": median_ratio(seconds["ours"], seconds["timm"]),
            **{key: median_ratio(seconds["windows"], seconds[key]) for key in DETECTRON2},
        },
        "peak_bytes": {key: peak_extra_bytes(job) for key, job in jobs.items()},
    }


def rows(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every measurement, and print it."""
    for name in args.families:
        for grid in GRIDS:
            for dtype, windowed in itertools.product((torch.float64, torch.float32), (False, True)):
                yield "parity", parity(name, grid, dtype, windowed)
    for side in args.images:
        for mode in args.modes:
            yield "cost", cost(args.timed, side, mode == "training", args.repeats)


PARITY_HEAD = """| network | tokens | map | gradient | map, one window | gradient, one window | \
map, float32 | gradient, float32 |
|---|---|---:|---:|---:|---:|---:|---:|"""
COST_HEAD = """| pixels | | {names} | ours / timm | windows / Detectron2 | windows / Detectron2, relative |
|---|---|{lines}---:|---:|---:|"""
NAMES = {"ours": "ours", "timm": "timm", "windows": "ours, windows"}
NAMES |= dict(zip(DETECTRON2, ("Detectron2", "Detectron2, relative"), strict=True))


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    return f"""# Foundation ViTs beside timm's and Detectron2's

{measured(report)}, on random weights of which none is trivial.

Largest difference of the last map and of the image's gradient to timm's, relative to the largest value; float64 unless
stated. "One window": all blocks attend in windows as large as the map's longer side, which is the same attention.

{PARITY_HEAD}
{parity_lines(report["parity"])}

`{report["timed"]}`, batch 1, fp32, on a CPU. "Ours" and timm's attend globally in all blocks; "ours, windows" has
windows of 16 x 16 tokens, and Detectron2's ViT of the same width and depth windows of 14 x 14, without and with
relative positions; four blocks are global. Time in ms is the processor's (median of interleaved runs), memory in
MiB the peak allocation beyond weights and input; ratios are of time, lower is better.

{COST_HEAD.format(names=" | ".join(NAMES.values()), lines="---:|" * len(NAMES))}
{cost_lines(report["cost"])}

[Published weights that load](foundation_loads.md), and a [guide](guides/foundation_vits.md) to these networks.
"""


def parity_lines(rows: list[dict[str, Any]]) -> str:
    """Render one line of the first table per network and grid."""
    columns = [("float64", False), ("float64", True), ("float32", False)]
    lines: dict[tuple[str, str], dict[tuple[str, bool], str]] = {}
    for row in rows:
        cells = lines.setdefault((row["name"], " x ".join(map(str, row["grid"]))), {})
        cells[row["dtype"], row["windowed"]] = f"{row['map']:.1e} | {row['gradient']:.1e}"
    return "\n".join(
        f"| `{name}` | {grid} | {' | '.join(cells[column] for column in columns)} |"
        for (name, grid), cells in lines.items()
    )


def cost_lines(rows: list[dict[str, Any]]) -> str:
    """Render time and memory per size and mode."""
    lines = []
    for row in rows:
        start = f"| {row['side']} x {row['side']} | {row['mode']}"
        times = [f"{1e3 * row['seconds'][key]:.0f}" for key in NAMES]
        peaks = [f"{row['peak_bytes'][key] / 2**20:.0f}" for key in NAMES]
        ratios = [f"{ratio:.2f}" for ratio in row["time_ratio"].values()]
        lines += [
            f"{start}, ms ({row['repeats']} runs) | {' | '.join([*times, *ratios])} |",
            f"{start}, MiB | {' | '.join(peaks)} | | | |",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description="Compare named ViTs of fpn_plugins with timm's networks")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--family", dest="families", nargs="*", default=list(FAMILIES), help="timm's names to compare")
    parser.add_argument(
        "--model", dest="timed", default="vit_small_patch16_dinov3", help="timm's name of the timed network"
    )
    parser.add_argument("--images", type=int, nargs="*", default=[512, 1024], help="sides in pixels of timed images")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with user_errors():
        report: dict[str, Any] = {**provenance(["torch", "fpn_plugins", "timm", "detectron2"]), "repeats": args.repeats}
        report |= {"timed": args.timed, "parity": [], "cost": []}
        for kind, row in rows(args):
            print(kind, row, flush=True)
            report[kind].append(row)
        write_report(args.out, report, markdown(report))


if __name__ == "__main__":
    main()
