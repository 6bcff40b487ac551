"""Options of the commands that run a detector, and the detector that they describe."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..adapters.detectors import LoadedDetector, annotated_names, load_detector
from ..data import PixelReader
from ..inference import AugmentedPredictor, ImagePredictor
from ..inference.engines import ENGINES, SUFFIXES, EnginePredictor, is_exported, load_engine
from .common import COUNT, PIXELS, SHARE, add_size, png_file

MERGES = ("GREEDYNMM", "NMM", "NMS")  # SAHI's names


def add_detector(parser: argparse.ArgumentParser, output: str, exported: bool = False) -> None:
    """Add a detector's config and weights, and options for its detections.

    Args:
        parser: parser to extend.
        output: default of ``--out``.
        exported: add an exported file in place of config and weights.
    """
    kind = png_file if output.endswith(".png") else Path
    if exported:
        parser.add_argument("config", metavar="FILE", help=f"exported detector: {', '.join(SUFFIXES)}")
    else:
        add_weights(parser)
    parser.add_argument("--out", type=kind, default=Path(output), help=f"where to write (default {output})")
    add_detector_input(parser)
    parser.add_argument("--score", type=SHARE, default=0.5, help="drop detections below this score (default 0.5)")
    add_names(parser)


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the names of a detector's classes."""
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--annotations", type=Path, help="COCO annotation file with the categories")
    names.add_argument("--classes", type=class_list, default=(), help="class names, NAME,NAME, or a file, one a line")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add a detector's config and weights."""
    parser.add_argument("config", help="config file, mmdet::NAME, detectron2::NAME or fpn_plugins::HOST/NAME")
    parser.add_argument("checkpoint", help="weights of the detector: a file, or fpn_plugins::NAME of the model zoo")


def add_detector_input(parser: argparse.ArgumentParser) -> None:
    """Add the image size and the device of a detector."""
    add_size(parser, default=None, unit=" px (default: as the config's test pipeline does)")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the engine of an exported detector."""
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), help="engine that runs an exported file (default: as its suffix says)"
    )
    parser.add_argument("--threads", type=COUNT, help="CPU threads of engines and of PyTorch (default: their choice)")


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add test-time augmentation and detection on slices."""
    parser.add_argument(
        "--tta",
        nargs="*",
        type=PIXELS,
        metavar="SIZE",
        help="detect on the flipped image too, at these shorter sides (default: at the one size), and merge",
    )
    parser.add_argument(
        "--slice",
        nargs="?",
        const=512,
        type=PIXELS,
        metavar="SIZE",
        help="detect on slices of this side too, in pixels (default 512), and merge by SAHI",
    )
    parser.add_argument("--overlap", type=SHARE, default=0.2, help="overlap of neighboring slices (default 0.2)")
    parser.add_argument(
        "--merge", choices=MERGES, help="how SAHI merges (default: GREEDYNMM, for scores below 0.1 NMS)"
    )


def with_views(predict: ImagePredictor, args: argparse.Namespace, score: float = 0.0) -> ImagePredictor:
    """Return a predictor with the options of `add_views`; ``score`` is the lowest before slices are merged."""
    if args.tta is not None:
        predict = AugmentedPredictor(predict, args.tta)
    if args.slice is not None:
        from ..adapters.sahi import SlicedPredictor

        predict = SlicedPredictor(predict, args.slice, args.overlap, args.merge, score)
    return predict


def check_engine(args: argparse.Namespace, files: Sequence[str]) -> None:
    """Let PyTorch take the threads of `add_engine`, and refuse an engine if none of the files is exported."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.engine is not None and not any(is_exported(file) for file in files):
        raise ValueError(f"--engine {args.engine} is for exported files; `fpn-plugins export` writes them")


def engine_of(path: str, args: argparse.Namespace) -> EnginePredictor:
    """Open an exported file with the options of `add_engine` and `add_detector_input`; on the CPU by default."""
    return with_reader(load_engine(path, args.engine, args.size, args.threads, device=args.device or "cpu"))


def with_reader(predict: EnginePredictor) -> EnginePredictor:
    """Let an exported detector read image files as it was exported to."""
    stored = predict.metadata.input.reader
    predict.reader = None if stored is None else PixelReader(**asdict(stored))
    return predict


def class_list(text: str) -> tuple[str, ...]:
    """Read class names, separated by commas, or the lines of a file."""
    try:
        names = Path(text).read_text(encoding="utf-8-sig").splitlines() if os.path.isfile(text) else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: {error}") from error
    found = tuple(name.strip() for name in names if name.strip())
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} must be different names, separated by commas, or a file of them")
    return found


def detector_of(args: argparse.Namespace) -> LoadedDetector:
    """Load the detector that the options of `add_detector` describe, and print what was found out about it."""
    silence_notes()
    if is_exported(args.config):
        return exported_detector(args)
    detector = load_detector(
        args.config, args.checkpoint, args.size, args.annotations, args.classes, device_of(args.device)
    )
    print(f"{detector.toolbox}: {detector.sources}", flush=True)
    return detector


def exported_detector(args: argparse.Namespace) -> LoadedDetector:
    """Open an exported file in place of a config and a checkpoint, with the names stored in it or those given."""
    predict = engine_of(args.config, args)
    stored = predict.metadata
    names = stored.names
    if args.annotations or args.classes:
        given = annotated_names(args.annotations) if args.annotations else dict(enumerate(args.classes))
        if len(given) != len(names):
            raise ValueError(f"{len(given)} class names are given, the exported detector has {len(names)} classes")
        names = given
    sources = f"{stored.detector} of {stored.toolbox}, images {predict.rule}, {len(names)} classes"
    print(f"{predict.session.engine}: {sources}", flush=True)
    return LoadedDetector(predict.session, predict, names, stored.toolbox, sources)


def silence_notes() -> None:
    """Drop notes of PyTorch to developers of the toolboxes, which nobody who runs a command can follow."""
    warnings.filterwarnings("ignore", "torch.meshgrid")
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)


def device_of(device: str | None) -> str:
    """Return the device to run on: a GPU by default, if there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
