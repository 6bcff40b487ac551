"""Compare all registered necks: size, arithmetic, memory, measured time, and published accuracy, in one table.

    python tools/benchmarks/neck_comparison.py --out tools/benchmarks/data/neck_comparison
    python tools/benchmarks/neck_comparison.py --out tools/benchmarks/data/neck_comparison --neck 'FPN, DySample' --add

Every neck, and every option of one that its card names, runs in its usual configuration (`NeckCard.arguments`) on the
maps of its card, in turn with FPN. Writes OUT.json, OUT.md and OUT.png; ``--add`` keeps the other rows of OUT.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_report import conditions, provenance, write_report
from timing import interleaved_seconds, median_ratio
from torch import Tensor, nn

from fpn_plugins import NECKS, FeatureSpec, NeckCard, build_neck
from fpn_plugins.analysis import neck_cost
from fpn_plugins.commands.common import user_errors
from fpn_plugins.necks import NeckVariant
from fpn_plugins.visualization.figures import COLORS, MUTED, axis_label

MODES = ("inference", "training")
BASE = "FPN"
SEPARATOR = ", "  # between a neck and its option
METHOD = """\
Each neck runs alone, in its usual configuration, on random maps of ResNet-50's shape (or a plain ViT-B's where noted),
in turn with FPN on C2-C5; a time is FPN's times the median ratio of neighboring runs. Training is forward and backward,
without an optimizer; a neck that follows another (BFP, DyHead) is timed without it. Options with published results of
their own (DySample) have rows.
"Kept" are the maps that autograd keeps for backward, counted, fp32. Published AP is the cited
authors' on COCO val2017 with the detector named; "over FPN" is the same source's difference to FPN with the same
detector and schedule, and is empty where the source gives none. These are CPU figures; they say nothing about a GPU.
[The ranking on photographs](neck_ranking.md) has what ten of these necks reach in trainings of our own."""
# "box AP 37.5 (FPN: 37.4): Faster R-CNN R50, 12 epochs (mmdet model zoo)"
RESULT = re.compile(r"^box AP (?P<ap>[\d.]+) \(FPN: (?P<base>[\d.]+)\): (?P<where>.*)$")


def job(name: str, mode: str, size: Sequence[int]) -> Callable[[], None]:
    """Make the job to time: a forward pass of a neck, or forward and backward in training."""
    torch.manual_seed(0)
    card = card_of(name)
    neck = build_neck(config_of(name), card.in_specs).train(mode == "training")
    maps = [torch.randn(shape) for shape in shapes(card.in_specs, size)]
    return partial(run, neck, maps, mode == "training")


def shapes(specs: Sequence[FeatureSpec], size: Sequence[int]) -> list[tuple[int, ...]]:
    """Shapes ``1 C H W`` of the maps of an image of ``size`` pixels."""
    return [(1, spec.channels, *(-(-side // spec.stride) for side in size)) for spec in specs]


def run(neck: nn.Module, maps: Sequence[Tensor], training: bool) -> None:
    """Run a pass."""
    with torch.set_grad_enabled(training):
        outputs = list(tensors(neck([x.detach().requires_grad_(training) for x in maps])))
        if training:
            torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])


def tensors(found: Any) -> Iterator[Tensor]:
    """Yield the tensors of a neck's result, nested or not."""
    if isinstance(found, Tensor):
        yield found
    elif found is not None:
        for value in found.values() if isinstance(found, dict) else found:
            yield from tensors(value)


def card_of(name: str) -> NeckCard:
    """Card of a registered neck, alone or with an option."""
    return NECKS[name.partition(SEPARATOR)[0]].card


def variant_of(name: str) -> NeckVariant | None:
    """Option in the name of a row."""
    _, _, option = name.partition(SEPARATOR)
    return card_of(name).variants[option] if option else None


def config_of(name: str) -> dict[str, Any]:
    """Config of a neck in its usual configuration, with the option in its name."""
    variant = variant_of(name)
    kind = name.partition(SEPARATOR)[0]
    return {"type": kind, **card_of(name).arguments, **(variant.arguments if variant else {})}


def all_names() -> list[str]:
    """Names of the rows: every neck, each followed by its options."""
    found = []
    for name in NECKS:
        found += [name, *(f"{name}{SEPARATOR}{option}" for option in card_of(name).variants)]
    return found


def measure(name: str, size: Sequence[int], repeats: int) -> dict[str, Any]:
    """Measure a neck beside FPN, and count its cost."""
    ratios = {}
    for mode in MODES:
        print(f"{name}: {mode}", file=sys.stderr, flush=True)
        seconds = interleaved_seconds({"this": job(name, mode, size), BASE: job(BASE, mode, size)}, repeats)
        ratios[mode] = {
            "seconds": statistics.median(seconds["this"]),
            "over_fpn": 1.0 if name == BASE else median_ratio(seconds["this"], seconds[BASE]),
        }
    card = card_of(name)
    total = neck_cost(config_of(name), card.in_specs, tuple(size)).total()
    counted = {"parameters": total.parameters, "macs": total.macs, "kept": total.activation_bytes}
    return {"neck": name, **counted, **ratios}


def gains(name: str) -> list[tuple[float, str]]:
    """Published differences to FPN in box AP under like conditions, with their detector and source."""
    found = filter(None, map(RESULT.match, (variant_of(name) or card_of(name)).results))
    return [(round(float(match["ap"]) - float(match["base"]), 1), match["where"]) for match in found]


def line(row: dict[str, Any]) -> str:
    """Format a line of the table."""
    name = row["neck"]
    times = [f"{row[mode]['over_fpn']:.2f}" for mode in MODES]
    published = [f"{gain:+.1f} ({where.partition(' (')[0]})" for gain, where in gains(name)]
    first = ["–"] if name != BASE else ["0"]
    cells = [
        f"[{name}](necks.md#{name.partition(SEPARATOR)[0].lower()})",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['macs'] / 1e9:.1f}",
        f"{row['kept'] / 2**20:.0f}",
        *times,
        "; ".join(published or first),
        (variant_of(name) or card_of(name)).use_when,
    ]
    return f"| {' | '.join(cells)} |"


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    base = next(row for row in report["rows"] if row["neck"] == BASE)
    times = " and ".join(f"{1e3 * base[mode]['seconds']:.0f} ms in {mode}" for mode in MODES)
    lines = [
        "# All necks in one table",
        "",
        f"{conditions(report)}, fp32, {report['repeats']} rounds.",
        "",
        METHOD,
        "",
        f"FPN takes {times}.",
        "",
        "| neck | parameters (M) | GMACs | kept (MiB) | time / FPN's, inference | training | published box AP over FPN"
        " | use it |",
        "|---|--:|--:|--:|--:|--:|---|---|",
        *(line(row) for row in report["rows"] if row["neck"] in all_names()),
        "",
        "![Published gain over FPN against measured time](neck_comparison.png)",
    ]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the published gain over FPN against the measured time."""
    axis = figure.subplots()
    axis.axhline(0, color=MUTED, linewidth=0.8)
    axis.plot(1, 0, "o", color=COLORS[6])
    axis.annotate(BASE, (1, 0), (4, 4), textcoords="offset points", size=7)
    for row in report["rows"]:
        found = gains(row["neck"]) if row["neck"] in all_names() else []
        if found:
            time, values = row["training"]["over_fpn"], [gain for gain, _ in found]
            axis.plot([time] * len(values), values, "o-", linewidth=1, color=COLORS[0])
            name = row["neck"].rpartition(SEPARATOR)[2]
            axis.annotate(name, (time, max(values)), (4, 4), textcoords="offset points", size=7)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(0.15)
    axis.set_xlabel(axis_label("time of a training pass / FPN's", better="lower"))
    axis.set_ylabel(axis_label("published box AP - FPN's", "%", "higher"))
    axis.grid()


def earlier_report(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Read the report to add rows to.

    Raises:
        ValueError: it was measured under other conditions.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    other = [key for key in ("size", "batch", "repeats", "processor", "threads", "torch") if found[key] != now[key]]
    if other:
        changes = ", ".join(f"{key} {found[key]!r} there, {now[key]!r} here" for key in other)
        raise ValueError(f"--add: {str(path)!r} has rows of other conditions: {changes}; measure all necks again")
    return found


def main() -> None:
    """Measure and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output path without suffix")
    parser.add_argument("--neck", dest="necks", nargs="+", choices=all_names(), default=all_names(), metavar="NECK")
    parser.add_argument("--add", action="store_true", help="add to the rows of OUT.json, or replace them")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 480), metavar=("HEIGHT", "WIDTH"), help="size of the image"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    with user_errors():
        torch.set_num_threads(args.threads)
        facts = {"size": list(args.size), "batch": 1, "repeats": args.repeats}
        report = {**provenance(["torch", "fpn_plugins"]), **facts, "rows": []}
        if args.add:
            report = earlier_report(args.out.with_suffix(".json"), report)
        names = args.necks if args.add else dict.fromkeys((BASE, *args.necks))
        rows = {row["neck"]: row for row in report["rows"]}
        rows |= {name: measure(name, args.size, args.repeats) for name in names}
        report["rows"] = [rows[name] for name in all_names() if name in rows]
        write_report(args.out, report, page(report), draw)
        print(page(report))


if __name__ == "__main__":
    main()
