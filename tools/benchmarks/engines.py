"""Compare exported detectors with the toolboxes' own: objects, masks, segments and time per image, by engine.

    python tools/benchmarks/engines.py --root COCO_FOLDER --out work_dirs/engines
    python tools/benchmarks/engines.py --root COCO_FOLDER --only retinanet --toolbox mmdet --engine openvino

Detectors of each toolbox's own configs with a ResNet-18 (``--depth 50``: a ResNet-50), whose random predictors are
scaled so that they find objects (`fpn_plugins.analysis.spread_predictions`), run on photographs at five sizes, none of
which was traced. A detector with fewer than ten objects per picture fails. ``--root`` takes several folders; on
photographs without masks, such as BCCD's, RetinaNet and Faster R-CNN are compared.

Engine ``itself`` is the toolbox's detector in channels-last layout: it computes the same with other rounding, and
shows how much rounding alone changes. A row is kept by size, and what PATH.json has is not measured again; exported
files lie beside it until their detector is done.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bench_report import provenance
from engine_agreement import Tally
from engine_detectors import BOXES_ALONE, CASES, DEPTHS, SIZES, Case, build, runs_at
from engine_page import page
from engine_views import view

from fpn_plugins.adapters.hosts import HOSTS, host_of
from fpn_plugins.commands.common import COUNT, user_errors, write_json
from fpn_plugins.commands.detector_options import silence_notes
from fpn_plugins.data import CocoSplit, find_split
from fpn_plugins.data.coco_folder import read_coco
from fpn_plugins.export import describe, export_detector
from fpn_plugins.files import locked, write_atomically
from fpn_plugins.inference import ImagePredictor, ResizeRule, read_image
from fpn_plugins.inference.engines import load_engine

LEAST = 10  # objects per picture
PHOTO = ResizeRule(240, 320)  # photographs are reduced: pasting masks takes most of the time on large ones
FORMATS = {"onnxruntime": ".onnx", "openvino": ".onnx", "torch": ".pt2", "itself": ""}
OVERLAP = 0.5  # threshold of suppression in all configs
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "mmdet", "detectron2", "fpn_plugins")
Sizes = dict[str, dict[str, Any]]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, nargs="+", required=True, help="COCO-format folders with photographs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="kinds of detectors")
    parser.add_argument("--toolbox", choices=("both", *HOSTS), default="both", help="toolboxes (default both)")
    parser.add_argument("--engine", nargs="+", choices=FORMATS, default=list(FORMATS), help="engines")
    parser.add_argument("--depth", type=int, choices=DEPTHS, default=DEPTHS[0], help="ResNet (default 18)")
    parser.add_argument("--num-images", type=COUNT, default=20, help="photographs (default 20)")
    parser.add_argument("--threads", type=COUNT, default=1, help="threads of PyTorch and of the engines (default 1)")
    parser.add_argument("--out", type=Path, help="add the rows to PATH.json, and write PATH.md")
    return parser.parse_args()


class Engines:
    """Exported forms of a detector, each exported when it is needed.

    Args:
        host: the toolbox's detector.
        case: its description.
        threads: threads of the engines.
        folder: folder of the files.
    """

    def __init__(self, host: ImagePredictor, case: Case, threads: int, folder: Path) -> None:
        self.host, self.case, self.threads, self.folder = host, case, threads, folder

    def load(self, engine: str) -> ImagePredictor:
        """Export the detector for an engine, and open the file."""
        if engine == "itself":
            model = copy.deepcopy(self.host.model).to(memory_format=torch.channels_last)
            return type(self.host)(model, rule=self.host.rule)
        file = self.folder / f"detector{FORMATS[engine]}"
        if not file.is_file():
            model = host_of("", self.case.toolbox).exportable(self.host.model)
            names = {index: str(index) for index in range(model.settings.num_classes)}
            export_detector(model, file, describe(model, names, self.host.rule))
        return load_engine(file, engine, threads=self.threads)


def compare(
    host: ImagePredictor, engines: dict[str, ImagePredictor], photos: list[Any], size: tuple[int, int], clock: Any
) -> Sizes:
    """Compare exported detectors with the toolbox's at one size; the toolbox's runs once for all of them.

    Raises:
        ValueError: fewer than `LEAST` objects per picture.
    """
    tallies = {name: Tally(OVERLAP) for name in engines}
    seconds: dict[str, list[float]] = {name: [] for name in ("host", *engines)}
    for photo in photos:
        views = {}
        for name, predict in {"host": host, **engines}.items():
            predict.rule = predict.rule.resized_to(*size)
            start = clock()
            views[name] = view(predict, photo)
            seconds[name].append(clock() - start)
        for name, tally in tallies.items():
            tally.add(views["host"], views[name])
    rows = {name: tally.row() for name, tally in tallies.items()}
    for name, row in rows.items():
        if row["total"] / row["pictures"] < LEAST:
            raise ValueError(f"{row['total'] / row['pictures']:.1f} objects per picture; {LEAST} are needed to compare")
        row["milliseconds"] = [1000 * statistics.median(seconds[which]) for which in ("host", name)]
    return rows


def cases(args: argparse.Namespace, split: CocoSplit, root: Path) -> list[Case]:
    """List the detectors to compare on photographs; those without masks have boxes alone."""
    truth = read_coco(split.ann_file)
    masks = any("segmentation" in entry for entry in truth["annotations"])
    kinds = [kind for kind in args.only if masks or kind in BOXES_ALONE]
    toolboxes = HOSTS if args.toolbox == "both" else (args.toolbox,)
    number = len(truth["categories"])
    return [Case(kind, toolbox, args.depth, root.name, number) for kind in kinds for toolbox in toolboxes]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every combination that the file does not have."""
    about = {**provenance(PACKAGES), "command": "tools/benchmarks/engines.py"}  # rows come from several calls
    report: dict[str, Any] = {**about, "photos": args.num_images, "sizes": SIZES, "rows": earlier_rows(args.out)}
    for root in args.root:
        split = find_split(root, "val")
        files = [entry["file_name"] for entry in read_coco(split.ann_file)["images"][: args.num_images]]
        photos = [PHOTO.scale(read_image(split.image_dir / name)) for name in files]
        for case in cases(args, split, root):
            measure_case(args, case, photos, report)
    return report


def measure_case(args: argparse.Namespace, case: Case, photos: list[Any], report: dict[str, Any]) -> None:
    """Measure what is left of one detector, size by size."""
    left = {
        size: [
            engine
            for engine in args.engine
            if runs_at(case.kind, case.toolbox, engine, size)
            and _key(size) not in report["rows"].get(case.row(engine), {})
        ]
        for size in SIZES
    }
    if not any(left.values()):
        return
    host = build(case, photos[0])
    clock = time.process_time if args.threads == 1 else time.perf_counter
    with exported_files(args.out, case) as folder:
        exported = Engines(host, case, args.threads, folder)
        engines = {name: exported.load(name) for name in args.engine if any(name in names for names in left.values())}
        for size, names in left.items():
            rows = compare(host, {name: engines[name] for name in names}, photos, size, clock) if names else {}
            for name, row in rows.items():
                report["rows"].setdefault(case.row(name), {})[_key(size)] = row
                print(case.row(name), _key(size), {key: row[key] for key in row if key != "unequal"}, flush=True)
            add_rows(args.out, report)


@contextmanager
def exported_files(out: Path | None, case: Case) -> Iterator[Path]:
    """Make the folder of a detector's exported files; a call that was killed leaves it to the next one."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    kept = out.parent / case.row("files").replace(", ", "-")
    kept.mkdir(parents=True, exist_ok=True)
    yield kept
    shutil.rmtree(kept)


def _key(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def earlier_rows(path: Path | None) -> dict[str, Sizes]:
    """Read the rows of earlier calls."""
    file = path and path.with_suffix(".json")
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file and file.is_file() else {}


def add_rows(path: Path | None, report: dict[str, Any]) -> None:
    """Add rows to those of earlier calls in the JSON file, and write the page of all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".json")):
        for name, sizes in earlier_rows(path).items():
            report["rows"][name] = {**sizes, **report["rows"].get(name, {})}
        write_json(report, path.with_suffix(".json"))
        with write_atomically(path.with_suffix(".md")) as temporary:
            temporary.write_text(page(report), encoding="utf-8")


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
