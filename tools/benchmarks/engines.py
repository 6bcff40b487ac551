"""Compare exported detectors with the toolboxes' own: objects, AP and time per image, by engine.

    python tools/benchmarks/engines.py --root COCO_FOLDER --out work_dirs/engines
    python tools/benchmarks/engines.py --root COCO_FOLDER --only retinanet --toolbox mmdet --engine openvino

Detectors of each toolbox's own configs with a ResNet-18, whose random predictors are scaled so that they find objects
(`fpn_plugins.analysis.spread_predictions`), run on photographs at five sizes, none of which was traced. Objects count
as equal within 0.01 px and 1e-4 in score; the smallest IoU of their masks is stated. A detector with fewer than ten
objects per picture fails. Of Panoptic FPN, the classes of pixels after merging are compared, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from bench_report import measured, provenance

from fpn_plugins.adapters.hosts import HOSTS, host_of
from fpn_plugins.analysis import agreement, spread_predictions
from fpn_plugins.analysis.evaluation import evaluate_detectors
from fpn_plugins.commands.common import COUNT, user_errors, write_json
from fpn_plugins.commands.detector_options import silence_notes
from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.data.coco_folder import read_coco
from fpn_plugins.export import describe, export_detector
from fpn_plugins.files import locked, write_atomically
from fpn_plugins.inference import ImagePredictor, PanopticSegments, ResizeRule, read_image
from fpn_plugins.inference.engines import load_engine

SIZES = ((96, 160), (128, 200), (160, 213), (200, 333), (240, 400))
LEAST = 10  # objects per picture
MMDET_R18 = ("model.backbone.depth=18", "model.neck.in_channels=[64,128,256,512]")
D2_R18 = ("MODEL.RESNETS.DEPTH=18", "MODEL.RESNETS.RES2_OUT_CHANNELS=64")
CASES = {
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco.py", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"),
    "faster_rcnn": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
    "mask_rcnn": (
        "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
    ),
    "cascade_mask_rcnn": (
        "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    ),
    "panoptic_fpn": (
        "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
    ),
}
ENGINES = {"onnxruntime": ".onnx", "openvino": ".onnx", "torch": ".pt2"}
FASTER_OPTIONS = {"mmdet": "model.test_cfg.rpn.max_per_img=300", "detectron2": "MODEL.RPN.POST_NMS_TOPK_TEST=300"}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="COCO folder with photographs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="kinds of detectors")
    parser.add_argument("--toolbox", choices=("both", *HOSTS), default="both", help="toolboxes (default both)")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES), help="engines")
    parser.add_argument("--num-images", type=COUNT, default=20, help="photographs (default 20)")
    parser.add_argument("--threads", type=COUNT, default=1, help="threads of PyTorch and of the engines (default 1)")
    parser.add_argument("--out", type=Path, help="add the rows to PATH.json, and write PATH.md")
    return parser.parse_args()


def build(kind: str, toolbox: str, photo: Any) -> ImagePredictor:
    """Build a detector that finds objects on a photograph."""
    torch.manual_seed(0)
    config = f"{toolbox}::{CASES[kind][toolbox == 'detectron2']}"
    options = list(MMDET_R18 if toolbox == "mmdet" else D2_R18)
    if kind != "retinanet":
        options.append(FASTER_OPTIONS[toolbox])
    host = host_of(config, toolbox)
    model = host.build(config, options).eval()
    library = "opencv" if toolbox == "mmdet" else "pillow"
    predict = host.Predictor(model, rule=ResizeRule(*SIZES[2], library=library))
    run: Callable[[Any], object] = predict if predict.finds_objects else predict.panoptic
    spread_predictions(model, lambda: run(photo))
    return predict


def at_size(predict: ImagePredictor, size: tuple[int, int]) -> ImagePredictor:
    """Let a predictor resize to other sides."""
    predict.rule = predict.rule.resized_to(*size)
    return predict


def timed(run: Callable[[Any], Any], image: Any, seconds: list[float]) -> Any:
    """Run a detector and note the time."""
    start = time.perf_counter()
    found = run(image)
    seconds.append(time.perf_counter() - start)
    return found


def classes(found: PanopticSegments) -> torch.Tensor:
    """Return the class of each pixel: things from 1, stuff below 0, nothing 0."""
    table = torch.zeros(len(found.segments) + 1, dtype=torch.int64)
    for segment in found.segments:
        table[segment.id] = segment.label + 1 if segment.is_thing else -1 - segment.label
    return table[found.ids]


def compare(host: ImagePredictor, engine: ImagePredictor, photos: list[Any], split: CocoSplit) -> dict[str, Any]:
    """Compare an exported detector with the toolbox's."""
    pairs, pixels = [], []
    seconds: tuple[list[float], list[float]] = [], []
    for size in SIZES:
        for predict in (host, engine):
            at_size(predict, size)
        for number, photo in enumerate(photos):
            if host.finds_objects:
                found = [timed(run, photo, kept) for run, kept in zip((host, engine), seconds, strict=True)]
                pairs.append((number, *found))
            if host.is_panoptic:
                runs = (host.panoptic, engine.panoptic)
                maps = [classes(timed(run, photo, kept)) for run, kept in zip(runs, seconds, strict=True)]
                pixels.append(float((maps[0] == maps[1]).float().mean()))
    row: dict[str, Any] = {"time": statistics.median(seconds[1]) / statistics.median(seconds[0])}
    row["milliseconds"] = [1000 * statistics.median(kept) for kept in seconds]
    if pixels:
        row["pixels"] = sum(pixels) / len(pixels)
    if pairs:
        agreed = agreement(pairs)
        row |= {name: getattr(agreed, name) for name in ("total", "share", "box_difference", "score_difference")}
        row |= {"per_picture": agreed.total / len(pairs), "mask_iou": agreed.mask_iou}
        if row["per_picture"] < LEAST:
            raise ValueError(f"{row['per_picture']:.1f} objects per picture; at least {LEAST} are needed to compare")
        scores, _ = evaluate_detectors({"host": host, "engine": engine}, split, len(photos))
        row["ap"] = max(abs(scores["host"][kind]["AP"] - scores["engine"][kind]["AP"]) for kind in scores["host"])
    return row


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every combination."""
    split = find_split(args.root, "val")
    files = [entry["file_name"] for entry in read_coco(split.ann_file)["images"][: args.num_images]]
    photos = [read_image(split.image_dir / name) for name in files]
    about = provenance(["torch", "onnx", "onnxruntime", "openvino", "fpn_plugins"])
    about["command"] = "tools/benchmarks/engines.py"  # rows come from several calls
    report: dict[str, Any] = {**about, "photos": len(photos), "sizes": SIZES, "rows": {}}
    for kind in args.only:
        for toolbox in HOSTS if args.toolbox == "both" else (args.toolbox,):
            host = build(kind, toolbox, photos[0])
            model = host_of("", toolbox).exportable(host.model)
            names = {index: str(index) for index in range(model.settings.num_classes)}
            with tempfile.TemporaryDirectory() as folder:
                suffixes = {ENGINES[engine] for engine in args.engine}
                described = describe(model, names, host.rule)
                exported = {s: export_detector(model, Path(folder) / f"a{s}", described) for s in suffixes}
                for engine in args.engine:
                    predict = load_engine(exported[ENGINES[engine]], engine, threads=args.threads)
                    row = {f"{kind}, {toolbox}, {engine}": compare(host, predict, photos, split)}
                    print(row, flush=True)
                    report["rows"] |= row
                    add_rows(args.out, report)
    return report


def add_rows(path: Path | None, report: dict[str, Any]) -> None:
    """Add rows to those of earlier runs in the JSON file, and write the page of all."""
    if path is None:
        return
    file = path.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file):
        earlier = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else {}
        report["rows"] = {**earlier, **report["rows"]}
        write_json(report, file)
        with write_atomically(path.with_suffix(".md")) as temporary:
            temporary.write_text(page(report), encoding="utf-8")


HEADER = """# Exported detectors in other engines

{measured}.

{photos} photographs of COCO at {count} sizes ({sizes} px, shorter and longer side), none of them traced; detectors of
each toolbox's own configs with a ResNet-18, whose random predictors are scaled so that they find objects. Objects are
equal if they agree within 0.01 px and 1e-4 in score. Times are per image on one thread, with resizing and pasting of
masks, relative to the toolbox in eager mode. The least IoU is that of one mask among all; in one of nine pixels, a
single pixel at the threshold makes it 0.89. Panoptic FPN is compared by the class of each pixel after merging; mmdet's
returns merged segments alone. The AP of such detectors is near 0; the [guide](guides/deploy.md) has that of trained
ones.

| detector | toolbox | engine | objects | equal objects | least mask IoU | AP changes by | equal pixels | time |
|---|---|---|--:|--:|--:|--:|--:|--:|
"""


def page(report: Mapping[str, Any]) -> str:
    """Build the page."""
    lines = []
    order = [f"{kind}, {toolbox}, {engine}" for kind in CASES for toolbox in HOSTS for engine in ENGINES]
    for name in sorted(report["rows"], key=order.index):
        row = report["rows"][name]
        cells = [*name.split(", "), _shown(row, "per_picture", ".0f"), _percent(row, "share")]
        masks = _shown(row, "mask_iou", ".4f") if "mask" in name or "panoptic" in name else "-"
        cells += [masks, _shown(row, "ap", ".4f"), _percent(row, "pixels"), f"{row['time']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    sizes = ", ".join(f"{short} x {long}" for short, long in report["sizes"])
    text = HEADER.format(
        measured=measured(dict(report)), photos=report["photos"], count=len(report["sizes"]), sizes=sizes
    )
    return text + "\n".join([*lines, ""])


def _shown(row: Mapping[str, Any], key: str, form: str) -> str:
    return format(row[key], form) if key in row else "-"


def _percent(row: Mapping[str, Any], key: str) -> str:
    return f"{100 * row[key]:.2f} %" if key in row else "-"


def main() -> None:
    """Measure, print, and write if asked."""
    args = parse_args()
    warnings.filterwarnings("ignore")
    silence_notes()
    torch.set_num_threads(args.threads)
    with user_errors():
        print(page(measure(args)))


if __name__ == "__main__":
    main()
