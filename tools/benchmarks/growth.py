"""Growth of time and memory with the number of pixels: slopes on logarithmic axes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from bench_report import label_powers
from timing import growth_exponent

from fpn_plugins.visualization.figures import axis_label, legend_below, series_color

FACTORS = (0.5, 1.0, 2.0, 4.0)
KINDS = {"seconds": ("time", "ms", 1e-3), "peak_bytes": ("peak memory", "MiB", 2**20)}
STRIDE = 32
DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))  # lines on top of others leave them visible


class Sample(NamedTuple):
    """Time and memory of one implementation at one size; ``peak_bytes`` is ``None`` if not measured."""

    what: str
    mode: str
    who: str
    size: tuple[int, int]
    seconds: float
    peak_bytes: int | None


def add_slopes_argument(parser: Any) -> None:
    """Add ``--slopes``, the same option for all benchmarks."""
    parser.add_argument(
        "--slopes",
        type=float,
        nargs="*",
        metavar="FACTOR",
        help="measure growth with the image instead; its sides are --size times these factors, "
        f"rounded to {STRIDE} pixels (default: {' '.join(f'{factor:g}' for factor in FACTORS)})",
    )


def scaled_sizes(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Heights and widths of the command line's factors, ascending.

    Raises:
        ValueError: fewer than two factors, or one that is not positive.
    """
    factors = sorted(set(args.slopes or FACTORS))
    if len(factors) < 2 or factors[0] <= 0:
        raise ValueError(f"slopes={args.slopes} must be at least two positive factors of the sides")
    height, width = args.size
    return [(_whole(factor * height), _whole(factor * width)) for factor in factors]


def _whole(side: float) -> int:
    """Round to a side that Detectron2's FPN takes."""
    return max(1, round(side / STRIDE)) * STRIDE


def curves(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Collect the samples of each implementation over the sizes, with the exponents of their growth."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.what, sample.mode, sample.who), []).append(sample)
    return [_curve(group) for group in groups.values()]


def _curve(samples: Sequence[Sample]) -> dict[str, Any]:
    first = samples[0]
    found: dict[str, Any] = {"what": first.what, "mode": first.mode, "who": first.who}
    found["pixels"] = [sample.size[0] * sample.size[1] for sample in samples]
    for kind in KINDS:
        values = [getattr(sample, kind) for sample in samples]
        if None not in values:
            found[kind] = {"values": values, "exponent": growth_exponent(found["pixels"], values)}
    return found


def growth_table(found: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Render the curves as lines of a Markdown table."""
    measured = [kind for kind in KINDS if any(kind in curve for curve in found)]
    header, rule = ["", "", ""], ["---"] * 3
    for kind in measured:
        unit = KINDS[kind][1]
        header += [f"{unit}, {height} x {width}" for height, width in sizes] + [f"{unit} ~ pixels to the power of"]
        rule += ["--:"] * (len(sizes) + 1)
    return [
        f"| {' | '.join(header)} |",
        f"|{'|'.join(rule)}|",
        *(_line(curve, measured, len(sizes)) for curve in found),
    ]


def _line(curve: dict[str, Any], measured: Sequence[str], number: int) -> str:
    columns = [curve["what"], curve["mode"], curve["who"]]
    for kind in measured:
        columns += _columns(curve[kind], KINDS[kind][2]) if kind in curve else [""] * (number + 1)
    return f"| {' | '.join(columns)} |"


def _columns(values: dict[str, Any], unit: float) -> Iterator[str]:
    yield from (f"{value / unit:.1f}" for value in values["values"])
    yield f"{values['exponent']:.2f}"


def draw_growth(found: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]], figure: Any) -> None:
    """Draw a line per implementation on logarithmic axes: rows for modules and quantities, columns for modes."""
    modes, whats, whos = ([*dict.fromkeys(curve[key] for curve in found)] for key in ("mode", "what", "who"))
    rows = [(what, kind) for what in whats for kind in KINDS if any(kind in c for c in found if c["what"] == what)]
    figure.set_figheight(0.6 + 2.1 * len(rows))
    axes = figure.subplots(len(rows), len(modes), sharey="row", squeeze=False)
    for line, (what, kind) in zip(axes, rows, strict=True):
        quantity, unit, scale = KINDS[kind]
        for axis, mode in zip(line, modes, strict=True):
            for curve in (c for c in found if (c["mode"], c["what"]) == (mode, what) and kind in c):
                values = [value / scale for value in curve[kind]["values"]]
                index = whos.index(curve["who"])
                style = {"color": series_color(index), "linestyle": DASHES[index % len(DASHES)], "marker": "o"}
                axis.loglog(curve["pixels"], values, label=curve["who"], **style)
            axis.set(title=f"{what}, {mode}", ylabel=axis_label(quantity, unit, "lower"))
            axis.set_xticks([h * w for h, w in sizes], [f"{h} x {w}" for h, w in sizes])
            label_powers(axis)
    for axis in axes[-1]:
        axis.set_xlabel("image, px")
    legend_below(figure)
