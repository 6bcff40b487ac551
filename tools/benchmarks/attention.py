"""Compare the attention of `fpn_plugins.ViT` with Detectron2's: time and memory in inference and training.

python tools/benchmarks/attention.py --out tools/benchmarks/data/attention

Writes OUT.json, OUT.md and OUT.png. Both run in turn in one process, on the same inputs with the same weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import label_powers, measured, provenance, write_report
from timing import growth_exponent, interleaved_seconds, median_ratio, peak_extra_bytes
from torch import nn

from fpn_plugins import ViT
from fpn_plugins.backbones.vit.attention import Attention
from fpn_plugins.commands.common import user_errors
from fpn_plugins.visualization.figures import axis_label, legend_below, series_color

DIM, HEADS = 768, 12  # ViT-B
GLOBAL_BLOCKS = (2, 5, 8, 11)
_MEMORY = axis_label("peak memory", "MiB", "lower")


def attention_pair(side: int) -> tuple[dict[str, nn.Module], torch.Tensor]:
    """Build both attentions for ``side`` x ``side`` tokens with the same weights, and draw tokens."""
    from detectron2.modeling.backbone.vit import Attention as Theirs

    theirs = Theirs(DIM, HEADS, use_rel_pos=True, rel_pos_zero_init=False, input_size=(side, side))
    ours = Attention(DIM, HEADS, rel_pos_size=(side, side))
    ours.load_state_dict(theirs.state_dict())
    return {"ours": ours, "detectron2": theirs}, torch.randn(1, side, side, DIM)


def backbone_pair(side: int) -> tuple[dict[str, nn.Module], torch.Tensor]:
    """Build both ViT-B with the same weights, and draw an image of ``side`` x ``side`` pixels."""
    from detectron2.modeling.backbone.vit import ViT as Theirs

    windowed = [index for index in range(12) if index not in GLOBAL_BLOCKS]
    theirs = Theirs(img_size=side, use_rel_pos=True, window_size=14, window_block_indexes=windowed)
    ours = ViT(img_size=side, global_block_indices=GLOBAL_BLOCKS, norm_eps=1e-5)
    ours.load_state_dict(theirs.state_dict())
    return {"ours": ours, "detectron2": theirs}, torch.randn(1, 3, side, side)


def run(module: nn.Module, x: torch.Tensor, training: bool) -> None:
    """Run one forward pass, or forward and backward with gradients of the input and all parameters."""
    with torch.set_grad_enabled(training):
        out = module(x.detach().requires_grad_(training))
        if training:
            maps = out.values() if isinstance(out, dict) else out if isinstance(out, tuple) else (out,)
            sum(m.sum() for m in maps).backward()
    module.zero_grad()


def measure(pair: dict[str, nn.Module], x: torch.Tensor, training: bool, repeats: int) -> dict[str, Any]:
    """Measure medians and ratios of both."""
    jobs: dict[str, Callable[[], None]] = {name: partial(run, module, x, training) for name, module in pair.items()}
    seconds = interleaved_seconds(jobs, repeats)
    peaks = {name: peak_extra_bytes(job) for name, job in jobs.items()}
    return {
        "mode": "training" if training else "inference",
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "time_ratio": median_ratio(seconds["ours"], seconds["detectron2"]),
        "peak_bytes": peaks,
        "memory_ratio": peaks["ours"] / peaks["detectron2"],
    }


def measure_all(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of the report, and print each when it is measured."""
    cases = [("attention, tokens", attention_pair, side) for side in args.tokens]
    cases += [("ViT-B, pixels", backbone_pair, side) for side in args.images]
    for kind, build, side in cases:
        pair, x = build(side)
        for training in (False, True):
            row = {"what": kind, "side": side, **measure(pair, x, training, args.repeats)}
            print(table_row(row), flush=True)
            yield row


def table_row(row: dict[str, Any]) -> str:
    """Line of the Markdown table."""
    seconds, peak = row["seconds"], {name: value / 2**20 for name, value in row["peak_bytes"].items()}
    return (
        f"| {row['what']} | {row['side']} x {row['side']} | {row['mode']} "
        f"| {1e3 * seconds['ours']:.0f} | {1e3 * seconds['detectron2']:.0f} | {row['time_ratio']:.2f} "
        f"| {peak['ours']:.0f} | {peak['detectron2']:.0f} | {row['memory_ratio']:.2f} |"
    )


def exponents(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Exponents with which the attention's memory grows with the number of tokens, by mode."""
    found: dict[str, dict[str, float]] = {}
    for mode in ("inference", "training"):
        chosen = [row for row in rows if row["mode"] == mode and row["what"].startswith("attention")]
        if len(chosen) < 2:
            continue
        tokens = [row["side"] ** 2 for row in chosen]
        names = ("ours", "detectron2")
        found[mode] = {name: growth_exponent(tokens, [row["peak_bytes"][name] for row in chosen]) for name in names}
    return found


def markdown(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    lines = [
        "# Attention with decomposed relative positions",
        "",
        f"{measured(report)}: medians of {report['repeats']} interleaved runs, fp32, batch 1, {DIM} channels, "
        f"{HEADS} heads. Memory is the peak allocation beyond weights and input. These are CPU figures; they say "
        "nothing about a GPU.",
        "",
        "| | size | | ours, ms | detectron2, ms | ratio | ours, MiB | detectron2, MiB | ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *(table_row(row) for row in report["rows"]),
        "",
    ]
    for mode, values in report["memory_exponents"].items():
        lines.append(
            f"Memory of the attention in {mode} grows with the number of tokens to the power of {values['ours']:.2f} "
            f"(detectron2: {values['detectron2']:.2f})."
        )
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw time and memory against the number of tokens, both axes logarithmic: a row of panels per mode."""
    measures = (("seconds", 1e-3, axis_label("time", "ms", "lower")), ("peak_bytes", 2**20, _MEMORY))
    figure.set_figheight(5)
    for line, mode in zip(figure.subplots(2, 2, sharex=True), ("inference", "training"), strict=True):
        rows = [row for row in report["rows"] if row["mode"] == mode and row["what"].startswith("attention")]
        tokens = [row["side"] ** 2 for row in rows]
        for axis, (key, unit, label) in zip(line, measures, strict=True):
            for index, name in enumerate(("ours", "detectron2")):
                values = [row[key][name] / unit for row in rows]
                axis.loglog(tokens, values, marker="o", color=series_color(index), label=name)
            axis.set(title=mode, ylabel=label)
            axis.set_xticks(tokens, [f"{row['side']} x {row['side']}" for row in rows])
            label_powers(axis)
    for axis in line:
        axis.set_xlabel("tokens")
    legend_below(figure)


def main() -> None:
    """Measure and write the three files."""
    parser = argparse.ArgumentParser(description="Compare the attention of fpn_plugins.ViT with Detectron2's")
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--tokens", type=int, nargs="*", default=[32, 48, 64], help="sides of the attention's grids")
    parser.add_argument("--images", type=int, nargs="*", default=[512], help="sides of ViT-B's images in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with user_errors():
        torch.manual_seed(0)
        rows = list(measure_all(args))
        report = {**provenance(["torch", "fpn_plugins", "detectron2"]), "repeats": args.repeats, "rows": rows}
        report["memory_exponents"] = exponents(rows)
        write_report(args.out, report, markdown(report), draw)


if __name__ == "__main__":
    main()
