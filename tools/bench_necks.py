"""Time and memory of our necks, of other packages' of the same kind, and of the bare convolutions.

    python tools/bench_necks.py --out docs/bench_necks

Writes OUT.json, OUT.md and OUT.png.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _bench_necks_cases import CASES, OURS, PACKAGES, build
from _bench_report import provenance, write_report
from _toolbox import user_errors
from torch import Tensor, nn

from fpn_plugins.analysis import fresh_process_peaks, on_meta, record_convs, run_convs
from fpn_plugins.analysis.latency import interleaved_seconds, median_ratio

FLOOR = "convolutions"
LAST = ", channels_last"
COPIED = ", copied to NCHW"
OUR_FORMS = (OURS, OURS + LAST, OURS + LAST + COPIED)
MODES = ("inference", "training")

METHOD = """\
All run in turn in one process, on maps of random values; times are medians, a ratio is the median over neighbouring
runs, and below 1 speaks for ours. Others run as they are used today, on maps laid out NCHW; ours also on channels-last
maps, as `PyramidBackbone(channels_last=True)` runs them: for Detectron2 as they are, for MMDetection with the results
copied to NCHW. "convolutions" are those of our neck alone, one after the other: no norm, no activation, no upsampling,
no sum, and of BFP's attention only the projections. Training is forward and backward, without an optimiser. Memory is
the most that a pass needs beyond weights, their gradients, the input maps and the gradients from the heads, each in a
fresh process: tensors that PyTorch allocates, and growth of the resident process. Nothing here says how any of them
does on a GPU."""


class Setting(NamedTuple):
    """What all of one report share; ``size`` is height and width of the image in pixels."""

    size: tuple[int, int]
    batch: int
    bf16: bool
    compiled: bool


def map_shapes(kind: str, setting: Setting) -> list[tuple[int, ...]]:
    """Shapes ``B C H W`` of the maps that a neck stands on."""
    sides = [tuple(-(-side // spec.stride) for side in setting.size) for spec in CASES[kind].specs]
    return [(setting.batch, spec.channels, *hw) for spec, hw in zip(CASES[kind].specs, sides, strict=True)]


def output_shapes(kind: str, setting: Setting) -> list[torch.Size]:
    """Shapes of a neck's maps; nothing is computed, so that it leaves no trace in the process's memory."""
    neck = on_meta(lambda: build(kind, OURS, setting.size))
    return [x.shape for x in neck([torch.empty(shape, device="meta") for shape in map_shapes(kind, setting)])]


def make_maps(kind: str, setting: Setting, channels_last: bool = False) -> list[Tensor]:
    """The maps, with random values."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [torch.randn(shape).to(memory_format=layout) for shape in map_shapes(kind, setting)]


def outputs_of(neck: nn.Module, maps: list[Tensor], contiguous: bool) -> list[Tensor]:
    """The pyramid as a list, high to low resolution."""
    found = neck(list(maps))  # effdet's appends to what it is given
    outputs = found.values() if isinstance(found, dict) else found
    return [x.contiguous() if contiguous else x for x in outputs]


def prepare(kind: str, who: str, mode: str, setting: Setting) -> Callable[[], None]:
    """What is timed: one pass of a neck in inference, or forward and backward of it in training."""
    torch.manual_seed(0)
    copied = who.endswith(COPIED)
    name, channels_last = who.removesuffix(COPIED).removesuffix(LAST), LAST in who
    neck = build(kind, OURS if name == FLOOR else name, setting.size).eval()
    if channels_last:
        neck = neck.to(memory_format=torch.channels_last)
    maps = make_maps(kind, setting, channels_last)
    for parameter in neck.parameters():  # there in every step but the first
        parameter.grad = torch.zeros_like(parameter)
    run: Callable[[], Any]
    layout = torch.channels_last if channels_last and not copied else torch.contiguous_format
    gradients = [torch.randn(shape).to(memory_format=layout) for shape in output_shapes(kind, setting)]
    if name == FLOOR:
        run = partial(
            run_convs, record_convs(neck, partial(_cast, partial(neck, maps), setting.bf16)), mode == "training"
        )
    else:
        neck.train(mode == "training")
        called = torch.compile(neck) if setting.compiled else neck
        run = partial(_pass, called, maps, gradients if mode == "training" else None, copied)
    return partial(_cast, run, setting.bf16)


def _pass(neck: nn.Module, maps: list[Tensor], gradients: list[Tensor] | None, contiguous: bool) -> None:
    with torch.set_grad_enabled(gradients is not None):
        outputs = outputs_of(neck, [x.detach().requires_grad_(gradients is not None) for x in maps], contiguous)
    if gradients is not None:
        torch.autograd.backward(outputs, [g.to(x.dtype) for g, x in zip(gradients, outputs, strict=True)])


def _cast(run: Callable[[], Any], bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        run()


def largest_differences(kind: str, setting: Setting) -> dict[str, float]:
    """How far the maps of ours with a peer's weights are from the peer's, relative to the largest value."""
    maps = make_maps(kind, setting)
    found = {}
    for who in CASES[kind].installed():
        torch.manual_seed(0)
        peer, ours = build(kind, who, setting.size).eval(), build(kind, OURS, setting.size).eval()
        for parameter in peer.parameters():  # nothing zero: some blocks start as the identity
            parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
        ours.load_state_dict(getattr(peer, "neck", peer).state_dict())
        with torch.no_grad():
            pairs = zip(outputs_of(ours, maps, False), outputs_of(peer, maps, False), strict=True)
            found[who] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    return found


def measure(kind: str, setting: Setting, repeats: int, memory: bool) -> Iterator[dict[str, Any]]:
    """The rows of one kind of neck."""
    necks = [*OUR_FORMS, *CASES[kind].installed()]
    contenders = [*necks, FLOOR, FLOOR + LAST]
    differences = largest_differences(kind, setting)
    for mode in MODES:
        print(f"{kind}: {mode}, {repeats} rounds of {'; '.join(contenders)}", file=sys.stderr, flush=True)
        seconds = interleaved_seconds({who: prepare(kind, who, mode, setting) for who in contenders}, repeats)
        peaks = {who: fresh_process_peaks(prepare, kind, who, mode, setting) for who in necks if memory}
        yield {
            "neck": kind,
            "mode": mode,
            "largest_relative_difference": differences,
            "seconds": {who: statistics.median(times) for who, times in seconds.items()},
            "time_ratios": {
                ours: {who: median_ratio(seconds[ours], times) for who, times in seconds.items()} for ours in OUR_FORMS
            },
            "peak_bytes": peaks,
        }


def table(row: dict[str, Any]) -> Iterator[str]:
    """Lines of the Markdown table, one for each that was timed."""
    for who, seconds in row["seconds"].items():
        ratios = " | ".join(f"{row['time_ratios'][ours][who]:.2f}" for ours in OUR_FORMS)
        peaks = row["peak_bytes"]
        memory = [
            f"{peaks[who][key] / 2**20:.0f}" if key in peaks.get(who, {}) else "" for key in ("tensors", "resident")
        ]
        ratio = f"{peaks[OURS]['tensors'] / peaks[who]['tensors']:.2f}" if who in peaks else ""
        columns = [row["neck"], row["mode"], who, f"{1e3 * seconds:.1f}", ratios, memory[0], ratio, memory[1]]
        yield f"| {' | '.join(columns)} |"


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    options = [name for name, on in (("bf16 autocast", report["bf16"]), ("torch.compile", report["compiled"])) if on]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    differences = {
        f"{row['neck']} and {who}'s": value
        for row in report["rows"]
        for who, value in row["largest_relative_difference"].items()
    }
    lines = [
        "# Necks: time and memory",
        "",
        f"Measured on {report['date']} by `make bench` on {report['processor']}, {report['threads']} threads, with "
        f"{versions}: images {report['batch']} x 3 x {report['size'][0]} x {report['size'][1]}, "
        f"{' and '.join(options) or 'single precision'}, {report['repeats']} runs.",
        "",
        METHOD,
        "",
        f"| neck | | | ms | {' | '.join(f'{ours} / this' for ours in OUR_FORMS)} | MiB | ours / this | resident MiB |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
        *(line for row in report["rows"] for line in table(row)),
        "",
        "Largest difference of the maps with the same weights, relative to the largest value: "
        + ", ".join(f"{pair} {value:.1g}" for pair, value in differences.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Time of each relative to our convolutions alone, laid out NCHW."""
    for axis, mode in zip(figure.subplots(1, 2, sharey=True), MODES, strict=True):
        rows = [row for row in report["rows"] if row["mode"] == mode]
        names = list(dict.fromkeys(who for row in rows for who in row["seconds"] if who != FLOOR))
        for place, who in enumerate(names):
            bars = [(x, row["seconds"]) for x, row in enumerate(rows) if who in row["seconds"]]
            width = 0.8 / len(names)
            axis.bar(
                [x + (place - (len(names) - 1) / 2) * width for x, _ in bars],
                [seconds[who] / seconds[FLOOR] for _, seconds in bars],
                width,
                label=who,
            )
        axis.set_yscale("log", base=2)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(len(rows)), [row["neck"] for row in rows])
        axis.set(title=mode, ylabel="time / time of the convolutions (NCHW)")
    axis.legend(fontsize="small")


def main() -> None:
    """Parse the command line, measure, and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where to write, without a suffix")
    parser.add_argument("--necks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"), help="of the image"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    parser.add_argument("--compile", action="store_true", help="necks through torch.compile (not the convolutions)")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        setting = Setting(tuple(args.size), args.batch, args.bf16, args.compile)
        packages = [name for name in PACKAGES if any(name in CASES[kind].installed() for kind in args.necks)]
        report = {
            **provenance(["torch", "fpn_plugins", *packages]),
            **setting._asdict(),
            "repeats": args.repeats,
            "rows": [row for kind in args.necks for row in measure(kind, setting, args.repeats, not args.no_memory)],
        }
        write_report(args.out, report, page(report), draw)
        print(page(report))


if __name__ == "__main__":
    main()
