"""Write the page of `int8`: what 8-bit integers cost and gain on trained detectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bench_report import measured

METRICS = {"AP": "AP", "AP50": "AP50", "AP_S": "S", "AP_M": "M", "AP_L": "L"}
KINDS = {"bbox": "boxes", "segm": "masks"}
AP_GOAL, TIME_GOAL = 0.3, 0.35


class Form(NamedTuple):
    """Exported file, engine that runs it, and type in which its float layers compute."""

    file: str
    engine: str
    precision: str = "float32"


TOOLBOX, INT8 = "toolbox", "OpenVINO, INT8"
# in float32, quantized by NNCF for OpenVINO and as ONNX, and by onnxruntime
FILES = PLAIN, *_ = ("float32.onnx", "int8.xml", "int8.onnx", "int8_own.onnx")
FORMS = {
    "onnxruntime": Form(PLAIN, "onnxruntime"),
    "OpenVINO": Form(PLAIN, "openvino"),
    "OpenVINO, bfloat16": Form(PLAIN, "openvino", "bfloat16"),
    INT8: Form(FILES[1], "openvino"),
    "onnxruntime, INT8": Form(FILES[2], "onnxruntime"),
    "onnxruntime, its own INT8": Form(FILES[3], "onnxruntime"),
}
EXACT = ("onnxruntime", "OpenVINO")
HEADER = """\
# 8-bit integers on trained detectors

{measured}.

{summary}

## How it was measured

`tools/benchmarks/int8.py NAME CONFIG CHECKPOINT --root COCO_FOLDER --out PATH` exports a trained detector in float32
and with 8-bit integers, and evaluates all forms on the validation split; each image goes through all of them in turn.
"INT8" is `fpn-plugins export --int8` ([export](guides/deploy.md)): NNCF, in OpenVINO's format and in ONNX; "its own
INT8" is onnxruntime's static quantizer (QDQ, per channel) on the same layers. Both saw the same images of the training
split. Times are per image, from pixels to objects with pasted masks, resizing included: {clock}.
Ratios are medians over the images. Objects are equal within 0.01 px and 1e-4 in score; bfloat16 and INT8 round more
than that. AP is that of all sizes (IoU 0.50 to 0.95), at IoU 0.50, and of small, medium and large objects; x 100.
"MiB" is the file.

These detectors are small (240 x 320 px, 64 channels): what is not quantized, such as resizing, decoding and
suppression, is a large part of their time. [Which engine on a CPU](cpu_engines.md) has the times of ResNet-50 and
Swin-T at full size, of which 8-bit integers take 0.12 to 0.21.

{tables}
"""


def page(report: Mapping[str, Any]) -> str:
    """Render the report as Markdown."""
    detectors = report["detectors"]
    one = report["threads"] == 1
    return HEADER.format(
        measured=measured(dict(report)),
        summary="\n".join(sentences(detectors)),
        clock="processor times on one thread" if one else f"wall times on {report['threads']} threads",
        tables="\n\n".join(f"## {name}\n\n{table(detector)}" for name, detector in detectors.items()),
    )


def sentences(detectors: Mapping[str, Any]) -> Iterator[str]:
    """Yield what holds for each detector: AP and time of 8-bit integers, and whether float engines are exact."""
    for name, detector in detectors.items():
        rows = detector["rows"]
        changes = ", ".join(f"{KINDS[kind]} {change(rows, INT8, kind):+.2f}" for kind in rows[TOOLBOX]["scores"])
        lost = max(-change(rows, INT8, kind) for kind in rows[TOOLBOX]["scores"])
        ratio = rows[INT8]["ratio"]
        yield (
            f"- {name}: OpenVINO with 8-bit integers changes AP by {changes} (goal {-AP_GOAL}: "
            f"{reached(lost <= AP_GOAL + 1e-9)}) and takes {ratio:.2f} of the toolbox's time (goal {TIME_GOAL}: "
            f"{reached(ratio <= TIME_GOAL)}), {rows[INT8]['seconds'] / rows['OpenVINO']['seconds']:.2f} of OpenVINO's "
            f"in float32. In float32, {least_equal(rows):.2%} of {rows[TOOLBOX]['objects']:.0f} objects per image are "
            "equal in onnxruntime and OpenVINO."
        )


def change(rows: Mapping[str, Any], form: str, kind: str) -> float:
    """Difference of AP to the toolbox's, x 100."""
    return 100 * (rows[form]["scores"][kind]["AP"] - rows[TOOLBOX]["scores"][kind]["AP"])


def least_equal(rows: Mapping[str, Any]) -> float:
    """Smallest share of equal objects among the engines in float32."""
    return min(rows[form]["equal"] for form in EXACT)


def reached(holds: bool) -> str:
    """Say whether a goal is reached."""
    return "reached" if holds else "not reached"


def table(detector: Mapping[str, Any]) -> str:
    """Make the table of a detector."""
    rows = detector["rows"]
    kinds = list(rows[TOOLBOX]["scores"])
    about = (
        f"`{detector['config']}`, calibrated on {detector['calibrated_on']} images, evaluated on {detector['images']}."
    )
    head = ["form", *(f"{KINDS[kind]} {short}" for kind in kinds for short in METRICS.values())]
    head += ["change of AP", "equal", "ms", "this / toolbox", "MiB"]
    lines = [about, "", f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(line(form, rows, kinds) for form in (TOOLBOX, *FORMS) if form in rows)])


def line(form: str, rows: Mapping[str, Any], kinds: list[str]) -> str:
    """Make the line of a form."""
    row = rows[form]
    cells = [form, *(shown(row["scores"][kind][metric]) for kind in kinds for metric in METRICS)]
    cells.append("" if form == TOOLBOX else ", ".join(f"{change(rows, form, kind):+.2f}" for kind in kinds))
    cells.append(f"{row['equal']:.2%}" if form in EXACT else "-")
    cells += [f"{1e3 * row['seconds']:.0f}", f"{row['ratio']:.2f}"]
    cells.append("-" if row["bytes"] is None else f"{row['bytes'] / 2**20:.1f}")
    return f"| {' | '.join(cells)} |"


def shown(score: float) -> str:
    """Show a score x 100; the data may have no objects of a size."""
    return "-" if score < 0 else f"{100 * score:.2f}"
