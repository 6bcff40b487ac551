"""Write the page of `cpu_engines`: recommendations, the goals, the table, what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench_report import TOOLS, measured
from cpu_engine_forms import BF16_PRECISION, ENGINES
from detector_passes import CONFIGS, OURS, STOCK, STOCK_CONFIGS, TOOLBOXES

SIZES = {
    "retinanet": (800, 1344),
    "mask_rcnn": (800, 1344),
    "swin_t": (1024, 1024),
    "vitdet_b": (1024, 1024),
}
NAMES = {
    "retinanet": "RetinaNet R50",
    "mask_rcnn": "Mask R-CNN R50",
    "swin_t": "Mask R-CNN Swin-T",
    "vitdet_b": "ViTDet-B Mask R-CNN",
}
GOALS = {"float32": 0.6, "int8": 0.35}
# shares of the toolbox's objects that a float32 engine has to find to be recommended: with random weights, or trained
LEAST_EQUAL, LEAST_TRAINED = 0.95, 0.999
TRAINED = TOOLS / "benchmarks" / "data" / "int8.json"
HEADER = """\
# Which engine on a CPU

{measured}. Instructions: {instructions}. A convolution in bfloat16 takes {bf16:.2f} of its time in float32 here,
{bf16_advice}.

## Recommendation

{advice}

## How it was measured

From pixels to objects with pasted masks, one image, {rounds} rounds. Each engine runs in a process of its own; they
take turns with the toolbox's own detector in float32, eager.
{clock}
Ratios are medians over neighboring runs, relative to that detector; lower is better. Memory is the highest resident
size of the process in a pass, less that of the process before it loaded the detector. Objects count as equal within
0.01 px and 1e-4 in score; bfloat16 and INT8 round more than that. Weights are random, with predictors scaled so that
there are as many objects as the configs allow; of candidates with nearly equal scores, rounding then decides which
one suppresses the others, most of all in mmdet's RetinaNet. Where they leave a doubt, the share of equal objects of
[trained detectors](int8.md) decides; [exported detectors](engines.md) has that of photographs.
"ours" is this package's config; "compiled" is its pyramid compiled (`compile=True`, see
[compile](guides/compile.md)); onnxruntime and OpenVINO run what `fpn-plugins export` writes. INT8 was calibrated on
a few drawn images, which is enough for its time and not for its AP: `fpn-plugins export --int8 COCO_FOLDER`
calibrates on your data and states the AP of both forms ([export](guides/deploy.md)). mmdet's package has no ViTDet:
there the base line is this package's detector in eager mode.
Goals: 0.6 of the time in float32 (or bfloat16), 0.35 in INT8.

| toolbox | detector | engine | ms | this / eager | goal | MiB | this / eager | objects | equal |
|---|---|---|--:|--:|---|--:|--:|--:|--:|
{table}

{missing}
"""


def engines_of(toolbox: str, detector: str) -> list[str]:
    """List the engines of a detector besides the base line."""
    same = STOCK_CONFIGS[toolbox, detector].startswith(str(CONFIGS))  # the base line is ours already
    return [name for name in ENGINES if name != STOCK and not (same and name == OURS)]


def page(report: Mapping[str, Any]) -> str:
    """Render the report as Markdown."""
    rows = ordered(report["rows"])
    rounds = [row["rounds"] for row in rows] or [0]
    slow = report["bf16_ratio"] >= 1
    return HEADER.format(
        measured=measured(dict(report)),
        instructions=", ".join(report["instructions"]) or "unknown",
        bf16=report["bf16_ratio"],
        bf16_advice="and was left out" if slow else "so it is worth a try",
        advice="\n".join(advice(rows)) or "Nothing was measured.",
        rounds=" to ".join(map(str, sorted({min(rounds), max(rounds)}))),
        clock="Times are processor times, because other programs ran on the machine."
        if report["threads"] == 1
        else "Times are wall times.",
        table="\n".join(map(line, rows)),
        missing=missing(rows),
    )


def ordered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort rows by detector, size, toolbox and engine."""
    return sorted(rows, key=lambda row: (list(SIZES).index(row["detector"]), *_place(row)))


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Place of a row among those of its detector: large images first."""
    return [-side for side in row["size"]], TOOLBOXES.index(row["toolbox"]), list(ENGINES).index(row["engine"])


def precision_of(row: Mapping[str, Any]) -> str:
    """Return the type in which a row's network computes."""
    return ENGINES[row["engine"]].precision


def advice(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence per detector, size and toolbox."""
    for case in dict.fromkeys(map(case_of, rows)):
        mine = [row for row in rows if case_of(row) == case and "ratio" in row]
        exact = [row for row in mine if precision_of(row) == "float32" and is_exact(row)]
        if exact:
            others = [best for kind in (BF16_PRECISION, "int8") if (best := fastest(mine, kind)) is not None]
            best = min(exact, key=lambda row: row["ratio"])
            doubtful = [
                f" `{row['engine']}` takes {row['ratio']:.2f} and finds {row['equal']:.0%} of the objects here: "
                "compare them on your pictures first."
                for row in mine
                if precision_of(row) == "float32" and not is_exact(row) and row["ratio"] < best["ratio"]
            ]
            yield f"- {', '.join(case)}: {sentence(best, others)}{''.join(doubtful)}"


def trained_share(row: Mapping[str, Any]) -> float:
    """Share of the objects of trained detectors that a row's engine finds, in the report of `int8`; 0 without one."""
    report = json.loads(TRAINED.read_text(encoding="utf-8")) if TRAINED.is_file() else {"detectors": {}}
    shares = [
        form["equal"]
        for detector in report["detectors"].values()
        if detector["toolbox"] == row["toolbox"] and row["detector"] in detector["config"]
        for name, form in detector["rows"].items()
        if name.lower() == row["engine"]
    ]
    return min(shares, default=0.0)


def is_exact(row: Mapping[str, Any]) -> bool:
    """Whether a float32 engine finds the toolbox's objects, with random weights or trained."""
    return row["equal"] >= LEAST_EQUAL or trained_share(row) >= LEAST_TRAINED


def case_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name the detector, the size and the toolbox of a row."""
    return NAMES[row["detector"]], " x ".join(map(str, row["size"])), row["toolbox"]


def fastest(rows: Sequence[dict[str, Any]], precision: str) -> dict[str, Any] | None:
    """Return the fastest row of a precision."""
    found = [row for row in rows if precision_of(row) == precision]
    return min(found, key=lambda row: row["ratio"], default=None)


def sentence(best: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Say what to take: the best engine in float32, and what rounds more if it is faster."""
    if best["ratio"] >= 1:
        text = "in float32, stay with the toolbox's eager mode"
    else:
        text = f"on this processor take `{best['engine']}`, {best['ratio']:.2f} of the time"
    text += f" (goal {GOALS['float32']}: {reached(best['ratio'], 'float32')})."
    if best["equal"] < LEAST_EQUAL:
        text += (
            f" It finds {best['equal']:.0%} of the objects with random weights, and {trained_share(best):.2%} of those "
            "of a small trained detector ([measured](int8.md))."
        )
    for other in others:
        if other["ratio"] < best["ratio"]:
            text += f" `{other['engine']}` takes {other['ratio']:.2f}"
            if precision_of(other) == "int8":
                text += f" (goal {GOALS['int8']}: {reached(other['ratio'], 'int8')})"
            text += " and changes the objects: measure its AP."
        else:
            text += f" `{other['engine']}`, {other['ratio']:.2f}, is no faster."
    return text


def reached(ratio: float, precision: str) -> str:
    """Say whether a ratio reaches the goal of a precision."""
    return "reached" if ratio <= GOALS.get(precision, GOALS["float32"]) else "not reached"


def line(row: dict[str, Any]) -> str:
    """Make the line of the table."""
    name, size, toolbox = case_of(row)
    cells = [toolbox, f"{name}, {size}", row["engine"]]
    if "error" in row:
        ended = row["error"].startswith("BrokenProcessPool")
        reason = "the system ended its process, as it does when memory runs out" if ended else row["error"]
        return f"| {' | '.join(cells)} | failed: {reason.replace('|', '/')} {'| ' * 7}"
    cells += [f"{1e3 * row['seconds']:.0f}", f"{row['ratio']:.2f}", reached(row["ratio"], precision_of(row))]
    memory = row["resident"] is not None
    cells += (
        [f"{row['resident'] / 2**20:.0f}", f"{row['resident'] / row['stock_resident']:.2f}"] if memory else ["", ""]
    )
    exact = precision_of(row) == "float32"
    cells += [str(row["objects"]), f"{row['equal']:.1%}" if exact else "-"]
    return f"| {' | '.join(cells)} |"


def missing(rows: Sequence[dict[str, Any]]) -> str:
    """List what has not been measured at the sizes of `SIZES`."""
    full = [row for row in rows if tuple(row["size"]) == SIZES[row["detector"]]]
    done = {(row["toolbox"], row["detector"], row["engine"]) for row in full}
    lines = []
    for detector in SIZES:
        for toolbox in TOOLBOXES:
            left = [name for name in engines_of(toolbox, detector) if (toolbox, detector, name) not in done]
            if left:
                all_ = len(left) == len(engines_of(toolbox, detector))
                lines.append(f"- {NAMES[detector]}, {toolbox}: {'all' if all_ else '; '.join(left)}")
    return (
        "\n".join(["Not measured yet at 800 x 1344 (R50) and 1024 x 1024:", "", *lines])
        if lines
        else "Every engine was measured."
    )
