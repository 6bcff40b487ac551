"""Compare the AP of trained detectors in fp32 with their AP on the fast paths of inference.

    python tools/studies/precision/evaluate.py \
        --detector CONFIG CHECKPOINT [--detector CONFIG CHECKPOINT ...] \
        --root COCO_FOLDER [--split val] [--size 800 1333] [--num-images N] [--out work_dirs/precision]

Detectors are of either toolbox, with this package's `PyramidBackbone`. Each is evaluated on the same pixels in fp32,
with ``channels_last``, with ``channels_last`` and backbone and neck in bfloat16, and all in bfloat16. Writes OUT.json,
OUT.md and OUT.png; with ``--out tools/studies/precision/data/precision``, page and picture go to ``docs/``.
Processors without bfloat16 instructions emulate them, with the same kind of rounding but many times slower.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from bench_report import draw_bars, provenance, write_report

from fpn_plugins.adapters.hosts import build_detector, class_names, host_of, toolbox_of
from fpn_plugins.analysis import agreement
from fpn_plugins.analysis.evaluation import Predict, evaluate_detectors
from fpn_plugins.commands.common import user_errors
from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.files import suffix_of
from fpn_plugins.inference import Detections, load_detector_weights
from fpn_plugins.visualization.figures import axis_label, legend_below


class FastPath(NamedTuple):
    """Options of inference."""

    channels_last: bool = True
    autocast: bool = False  # backbone and neck in bfloat16
    bf16: bool = False  # the whole detector in bfloat16

    def options(self, config: str) -> list[str]:
        """Overrides of the config for these options."""
        if suffix_of(config) in (".yaml", ".yml"):
            keys = ("MODEL.FPN_PLUGINS.CHANNELS_LAST", "MODEL.FPN_PLUGINS.AUTOCAST")
        else:
            keys = ("model.backbone.channels_last", "model.backbone.autocast")
        values = ("True" if self.channels_last else "", "bfloat16" if self.autocast else "")
        return [f"{key}={value}" for key, value in zip(keys, values, strict=True) if value]


REFERENCE = "single precision"
FAST_PATHS = {
    REFERENCE: FastPath(channels_last=False),
    "channels_last": FastPath(),
    "channels_last, backbone and neck in bf16": FastPath(autocast=True),
    "channels_last, all in bf16": FastPath(bf16=True),
}
BOX_TOLERANCE, SCORE_TOLERANCE = 1.0, 0.02  # bf16 has three digits
SHOWN_METRICS = ("AP", "AP50", "AP_S", "AP_M", "AP_L")
METHOD = f"""\
Trained detectors, evaluated by pycocotools on the same pixels in every form. "difference" is the AP minus that in
single precision, in points. "agree" is the share of detections that match one in single precision, of the same class,
within {BOX_TOLERANCE:g} px and a score difference of {SCORE_TOLERANCE}. "bf16" is autocast to bfloat16, of
`PyramidBackbone` only or of the whole detector. For times, see `docs/bench_detectors.md`."""


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="AP of trained detectors on the fast paths")
    parser.add_argument("--detector", nargs=2, action="append", required=True, metavar=("CONFIG", "CHECKPOINT"))
    parser.add_argument("--root", type=Path, required=True, help="folder of a COCO-format set")
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"), help="in pixels")
    parser.add_argument("--num-images", type=int, help="only the first N")
    parser.add_argument("--form", dest="forms", nargs="+", choices=list(FAST_PATHS), default=list(FAST_PATHS))
    parser.add_argument("--out", type=Path, default=Path("work_dirs/precision"), help="output path without suffix")
    args = parser.parse_args()
    args.forms = [REFERENCE, *(form for form in args.forms if form != REFERENCE)]
    return args


def build(config: str, checkpoint: str, form: FastPath) -> nn.Module:
    """Build a detector with its weights in one form.

    Raises:
        ValueError: the backbone is not a `PyramidBackbone`, or the config already turns a fast path on.
    """
    model: Any = build_detector(config)
    if not hasattr(model.backbone, "channels_last"):
        raise ValueError(
            f"config {config!r}: its backbone {type(model.backbone).__name__} has no fast path; expected "
            "PyramidBackbone of this package"
        )
    if model.backbone.channels_last or model.backbone.autocast_dtype:
        raise ValueError(f"config {config!r} already turns a fast path on; remove channels_last and autocast from it")
    if form != FAST_PATHS[REFERENCE]:
        model = build_detector(config, form.options(config))
    load_detector_weights(model, checkpoint)
    if form.bf16 and toolbox_of(config) == "mmdet":
        from mmdet_bf16 import allow_bf16

        allow_bf16(model)
    return model


def in_bf16(detector: Predict, image: Any) -> Detections:
    """Run a detector under autocast; boxes and scores are returned in fp32."""
    with torch.autocast("cpu", torch.bfloat16):
        found = detector(image)
    return found._replace(boxes=found.boxes.float(), scores=found.scores.float())


def measure(config: str, checkpoint: str, split: CocoSplit, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row per form of a detector."""
    detectors = {}
    for name in args.forms:
        model = build(config, checkpoint, FAST_PATHS[name])
        class_names(config, model, split.ann_file)  # raises if the set has other categories than the detector
        detector = host_of(config).Predictor(model, *args.size)
        detectors[name] = partial(in_bf16, detector) if FAST_PATHS[name].bf16 else detector
    scores, found = evaluate_detectors(detectors, split, args.num_images)
    for name in args.forms:
        pairs = ((image_id, of_reference, found[name][image_id]) for image_id, of_reference in found[REFERENCE].items())
        agreed = agreement(pairs, BOX_TOLERANCE, SCORE_TOLERANCE)
        yield {
            "detector": f"{Path(config).stem} ({toolbox_of(config)})",
            "form": name,
            "scores": scores[name],
            "differences": {
                kind: {m: 100 * (value[m] - scores[REFERENCE][kind][m]) for m in SHOWN_METRICS if value[m] >= 0}
                for kind, value in scores[name].items()
                if kind in scores[REFERENCE]
            },
            "images": len(found[REFERENCE]),
            "detections": agreed.total,
            "agree": agreed.share,
        }


def page(report: dict[str, Any]) -> str:
    """Render the report as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    short, long = report["size"]
    lines = [
        "# AP on the fast paths",
        "",
        f"Measured on {report['date']} by `tools/studies/precision/evaluate.py` on {report['processor']}, "
        f"with {versions}: {report['images']} images of {report['data']}, {short} px on the short side, at most {long} "
        "on the long side.",
        "",
        METHOD,
        "",
        f"| detector | | | {' | '.join(SHOWN_METRICS)} | difference of AP | agree |",
        f"|---|---|---|{'--:|' * (len(SHOWN_METRICS) + 2)}",
        *(line for row in report["rows"] for line in table(row)),
    ]
    return "\n".join(lines) + "\n"


def table(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table for boxes and masks."""
    for kind, names in (("bbox", "boxes"), ("segm", "masks")):
        if kind not in row["differences"]:
            continue
        found = [row["scores"][kind][metric] for metric in SHOWN_METRICS]
        values = [f"{100 * value:.2f}" if value >= 0 else "–" for value in found]  # no objects of that size
        share = f"{100 * row['agree']:.1f} %" if kind == "bbox" else ""
        difference = f"{row['differences'][kind]['AP']:+.2f}"
        columns = [row["detector"], names, row["form"], *values, difference, share]
        yield f"| {' | '.join(columns)} |"


def draw(report: dict[str, Any], figure: Any) -> None:
    """Draw the difference of box AP from fp32 of each form, overall and by object size."""
    names = list(dict.fromkeys(row["detector"] for row in report["rows"]))
    for axis, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        rows = [row for row in report["rows"] if row["detector"] == name and row["form"] != REFERENCE]
        metrics = [metric for metric in SHOWN_METRICS if metric != "AP50" and metric in rows[0]["differences"]["bbox"]]
        groups = [(m, {row["form"]: row["differences"]["bbox"][m] for row in rows}) for m in metrics]
        draw_bars(axis, groups, line=0)
        axis.set(title=name, ylabel=axis_label("AP minus AP in fp32", "points", "higher"))
    legend_below(figure)


def main() -> None:
    """Evaluate every form of every detector, and write the three files."""
    args = parse_args()
    with user_errors():
        split = find_split(args.root, args.split)
        rows = [row for detector in args.detector for row in measure(*detector, split, args)]
        packages = ["torch", "fpn_plugins", *dict.fromkeys(toolbox_of(config) for config, _ in args.detector)]
        data = {"data": args.root.resolve().name, "images": rows[0]["images"], "size": list(args.size)}
        report = {**provenance(packages), **data, "rows": rows}
        write_report(args.out, report, page(report), draw)
        print(page(report))


if __name__ == "__main__":
    main()
