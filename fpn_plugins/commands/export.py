"""Export a detector of either toolbox to one file for another engine: ONNX, OpenVINO, ``torch.export``, TorchScript.

    python tools/export.py CONFIG CHECKPOINT detector.onnx
    python tools/export.py CONFIG CHECKPOINT detector.xml --int8 COCO_FOLDER

The graph goes from pixels to boxes, scores, labels and masks, for images of any size. The suffix of the output chooses
the format: .onnx, .xml (OpenVINO, with a .bin), .pt2 (torch.export), .torchscript. The file holds class names, the size
of images and the settings of the detector. ``tools/predict.py FILE`` and ``tools/evaluate.py FILE`` run it.

``--int8`` calibrates 8-bit integers on images of a folder, or of the training split of a COCO-format one, and, for the
latter, prints AP and time of both forms on its validation split.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.detectors import load_detector
from ..adapters.hosts import host_of
from ..data import CocoSplit, find_split
from ..data.pixel_statistics import image_files
from ..files import suffix_of
from ..inference.engines import EnginePredictor, Metadata, Session, StoredReader
from .common import BATCH, COUNT, add_size, number, user_errors
from .detector_options import add_names, add_weights, silence_notes, with_reader
from .evaluate import check_classes, measure_files, table

if TYPE_CHECKING:
    import numpy as np


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Export a detector of either toolbox for another engine")
    add_weights(parser)
    parser.add_argument("file", type=Path, help="file to write: .onnx, .xml, .pt2 or .torchscript")
    add_size(parser, default=None, unit=" px (default: as the config's test pipeline does)")
    add_names(parser)
    parser.add_argument("--dtype", choices=("float32", "uint8"), default="float32", help="type of the pixels")
    parser.add_argument(
        "--normalized", action="store_true", help="the graph takes normalized pixels (default: RGB, 0 to 255)"
    )
    parser.add_argument(
        "--resize", action="store_true", help="the graph resizes images (.onnx, .xml; default: whoever runs it does)"
    )
    parser.add_argument(
        "--mask-form",
        choices=("probabilities", "pasted"),
        default="probabilities",
        help="masks: probabilities inside each box (default), or pasted into the image",
    )
    parser.add_argument(
        "--opset", type=number(int, 18, 30), default=18, help="version of ONNX's operators (default 18)"
    )
    parser.add_argument("--batch-size", type=BATCH, help="images that the graph takes at once (default: any number)")
    parser.add_argument("--int8", type=Path, metavar="FOLDER", help="calibrate 8-bit integers on images of this folder")
    parser.add_argument("--num-images", type=COUNT, default=128, help="images to calibrate on (default 128)")
    return parser.parse_args(argv)


def exportable(args: argparse.Namespace) -> tuple[Any, Metadata]:
    """Build the detector that the options describe, and its description."""
    from ..export import describe

    loaded = load_detector(args.config, args.checkpoint, args.size, args.annotations, args.classes)
    print(f"{loaded.toolbox}: {loaded.sources}", flush=True)
    model = host_of(args.config).exportable(loaded.model, args.normalized, args.mask_form)
    if args.mask_form == "pasted" and model.masks is None:
        raise ValueError(f"--mask-form pasted: {model.settings.kind} has no masks; leave it out")
    rule, reader = loaded.predict.rule, loaded.predict.reader
    if reader is not None:
        model.pixels.order = "RGB"  # channels in the order of the file are not reversed
    stored = None if reader is None else StoredReader(**asdict(reader))
    name = Path(args.config.split("::")[-1]).stem
    return model, describe(model, loaded.names, rule, name, args.dtype, args.resize, stored)


def calibration(files: Sequence[Path], metadata: Metadata) -> Iterator[np.ndarray]:
    """Yield images as the graph takes them."""
    predict = with_reader(EnginePredictor(Session(metadata, lambda images: {}, "")))
    for path in files:
        yield predict.batch(predict.read(path, metadata.toolbox or None))


def calibration_files(folder: Path, count: int) -> list[Path]:
    """Choose images of a folder evenly, or of the training split of a COCO-format one.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
    """
    found = image_files(folder)
    count = min(count, len(found))
    return [found[index * len(found) // count] for index in range(count)]


def evaluated_on(folder: Path | None) -> CocoSplit | None:
    """Return the validation split of a folder with images to calibrate on, if it has one."""
    with suppress(ValueError, FileNotFoundError):
        return None if folder is None else find_split(folder, "val")
    return None


def compare_int8(args: argparse.Namespace, model: Any, metadata: Metadata, split: CocoSplit) -> None:
    """Print AP and time of the float and the quantized form."""
    import tempfile

    from ..export import export_detector

    with tempfile.TemporaryDirectory() as folder:
        plain = export_detector(model, Path(folder) / f"in float32{args.file.suffix}", metadata, args.opset)
        print(table(measure_files([plain, args.file], split)))


def main(argv: Sequence[str] | None = None) -> None:
    """Export the detector."""
    args = parse_args(argv)
    with user_errors():
        from ..export import check_target, export_detector, export_int8

        check_target(args.file, args.int8 is not None)
        calibrated_on = calibration_files(args.int8, args.num_images) if args.int8 else []
        silence_notes()
        model, metadata = exportable(args)
        split = evaluated_on(args.int8)
        if split is not None:
            check_classes(args.config, metadata, split.ann_file)
        print(f"writing {args.file}; a large detector takes minutes", flush=True)
        if args.int8 is None:
            export_detector(model, args.file, metadata, args.opset, args.batch_size)
        else:
            images = calibration(calibrated_on, metadata)
            export_int8(model, args.file, metadata, images, args.opset, args.batch_size)
            if split is not None:
                compare_int8(args, model, metadata, split)
        files = [args.file, *([args.file.with_suffix(".bin")] if suffix_of(args.file) == ".xml" else [])]
        size = sum(file.stat().st_size for file in files)
        print(f"wrote {args.file}, {size / 2**20:.1f} MiB: {metadata.detector}, {len(metadata.classes)} classes")
