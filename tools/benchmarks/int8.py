"""Compare 8-bit integers with float engines on a trained detector: AP, equal objects, time per image, size on disk.

    python tools/benchmarks/int8.py NAME CONFIG CHECKPOINT --root COCO_FOLDER --out work_dirs/int8

Adds the rows of detector NAME to OUT.json, and writes OUT.md. Exported files stay in OUT/NAME; those that are there are
not written again. Ranges are seen on images of the training split, as in ``fpn-plugins export --int8``; AP is that of
the validation split. All forms get each image in turn.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from bench_report import provenance, write_report
from cpu_engine_forms import BF16_PRECISION, instructions
from detector_passes import BF16_INSTRUCTIONS
from int8_page import FILES, FORMS, TOOLBOX, page
from timing import median_ratio

from fpn_plugins.adapters.detectors import LoadedDetector, load_detector
from fpn_plugins.adapters.hosts import host_of
from fpn_plugins.analysis import agreement
from fpn_plugins.analysis.evaluation import evaluate_detectors
from fpn_plugins.commands.common import COUNT, user_errors
from fpn_plugins.commands.detector_options import silence_notes
from fpn_plugins.commands.evaluate import Timed
from fpn_plugins.commands.export import calibration, calibration_files
from fpn_plugins.data import find_split
from fpn_plugins.export import describe, export_detector
from fpn_plugins.export.quantization import LAYERS, with_objects, write_int8
from fpn_plugins.files import locked, write_atomically
from fpn_plugins.inference import ImagePredictor
from fpn_plugins.inference.engines import KEY, load_engine

if TYPE_CHECKING:
    import numpy as np

PACKAGES = ("torch", "fpn_plugins", "onnx", "onnxruntime", "openvino", "nncf")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the detector and its data, in the report")
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="weights of the trained detector")
    parser.add_argument("--root", type=Path, required=True, help="COCO-format folder")
    parser.add_argument("--out", type=Path, required=True, help="path of the report, without suffix")
    parser.add_argument("--num-images", type=COUNT, default=128, help="images to calibrate on (default 128)")
    parser.add_argument("--threads", type=COUNT, default=1, help="threads of PyTorch and of the engines (default 1)")
    return parser.parse_args()


def quantize_by_onnxruntime(plain: Path, file: Path, batches: Iterable[np.ndarray]) -> None:
    """Quantize an ONNX file with onnxruntime's own static quantizer, per channel, with the layers that NNCF gets."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches, one at a time."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {"images": batch}

    quantize_static(
        plain,
        file,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=list(LAYERS[".onnx"]),
    )
    result, description = onnx.load(file), onnx.load(plain).metadata_props
    if all(entry.key != KEY for entry in result.metadata_props):
        result.metadata_props.extend(description)
        onnx.save(result, file)


def export_all(loaded: LoadedDetector, args: argparse.Namespace, folder: Path) -> None:
    """Write a detector in float32, and in 8-bit integers by NNCF and by onnxruntime, as far as there are no files."""
    import onnx

    if all((folder / file).is_file() for file in FILES):
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = host_of(args.config, loaded.toolbox).exportable(loaded.model)
    metadata = describe(model, loaded.names, loaded.predict.rule, Path(args.config).stem)
    batches = list(calibration(calibration_files(args.root, args.num_images), metadata))
    plain, *nncf, own = (folder / file for file in FILES)
    if not plain.is_file():
        export_detector(model, plain, metadata)
    for file in nncf:
        if not file.is_file():
            write_int8(onnx.load(plain), file, metadata, batches)
    if not own.is_file():
        if metadata.masks:
            batches = with_objects(onnx.load(plain), batches, plain.suffix)
        with write_atomically(own) as temporary:
            quantize_by_onnxruntime(plain, temporary, batches)


def load_forms(loaded: LoadedDetector, folder: Path, threads: int) -> dict[str, tuple[ImagePredictor, int | None]]:
    """Open the detector in each form; return what detects, and the bytes of its file."""
    found: dict[str, tuple[ImagePredictor, int | None]] = {TOOLBOX: (loaded.predict, None)}
    for name, form in FORMS.items():
        if form.precision == BF16_PRECISION and not set(BF16_INSTRUCTIONS) & set(instructions()):
            continue
        file = folder / form.file
        weights = file.with_suffix(".bin")
        size = file.stat().st_size + (weights.stat().st_size if file.suffix == ".xml" else 0)
        found[name] = load_engine(file, form.engine, threads=threads, precision=form.precision), size
    return found


def compare(loaded: LoadedDetector, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate every form of a detector; return the number of images, and results by form."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    folder = args.out / f"{args.name}, {loaded.toolbox}"
    export_all(loaded, args, folder)
    forms = load_forms(loaded, folder, args.threads)
    timed = {name: Timed(predict, clock) for name, (predict, _) in forms.items()}
    scores, found = evaluate_detectors(timed, find_split(args.root, "val"))
    rows: dict[str, Any] = {}
    for name, run in timed.items():
        agreed = agreement((number, found[TOOLBOX][number], found[name][number]) for number in found[TOOLBOX])
        rows[name] = {"scores": scores[name], "seconds": run.median, "bytes": forms[name][1], "equal": agreed.share}
        rows[name] |= {"ratio": median_ratio(run.seconds, timed[TOOLBOX].seconds)}
        rows[name] |= {"objects": sum(len(image.scores) for image in found[name].values()) / len(found[name])}
        rows[name] |= {"box_difference": agreed.box_difference, "score_difference": agreed.score_difference}
    return {"images": len(found[TOOLBOX]), "rows": rows}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure a detector, by its name."""
    loaded = load_detector(args.config, args.checkpoint, annotations=find_split(args.root, "val").ann_file)
    about = {"toolbox": loaded.toolbox, "config": Path(args.config).stem, "calibrated_on": args.num_images}
    return {f"{args.name}, {loaded.toolbox}": {**about, **compare(loaded, args)}}


def add(out: Path, detectors: dict[str, Any]) -> str:
    """Add detectors to the report, and write its page; return the page."""
    report = {**provenance(PACKAGES), "command": "tools/benchmarks/int8.py"}  # rows come from several commands
    file = out.with_suffix(".json")
    with locked(file):
        earlier = json.loads(file.read_text(encoding="utf-8"))["detectors"] if file.is_file() else {}
        report["detectors"] = {**earlier, **detectors}
        write_report(out, report, page(report))
    return page(report)


def main() -> None:
    """Measure, write and print the report."""
    args = parse_args()
    warnings.filterwarnings("ignore")
    silence_notes()
    torch.set_num_threads(args.threads)
    with user_errors():
        print(add(args.out, measure(args)))


if __name__ == "__main__":
    main()
