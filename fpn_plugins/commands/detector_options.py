"""Options of the commands that run a detector, and the detector that they describe."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path

import torch

from ..adapters.detectors import LoadedDetector, load_detector
from .common import SHARE, add_size, png_file


def add_detector(parser: argparse.ArgumentParser, output: str) -> None:
    """Add a detector's config and weights, and options for its detections; ``output`` is ``--out``'s default."""
    kind = png_file if output.endswith(".png") else Path
    parser.add_argument("config", help="config file, mmdet::NAME, detectron2::NAME or fpn_plugins::HOST/NAME")
    parser.add_argument("checkpoint", help="weights of the detector: a file, or fpn_plugins::NAME of the model zoo")
    parser.add_argument("--out", type=kind, default=Path(output), help=f"where to write (default {output})")
    add_detector_input(parser)
    parser.add_argument("--score", type=SHARE, default=0.5, help="drop detections below this score (default 0.5)")
    names = parser.add_mutually_exclusive_group()
    names.add_argument("--annotations", type=Path, help="COCO annotation file with the categories")
    names.add_argument("--classes", type=class_list, default=(), help="class names, NAME,NAME, or a file, one a line")


def add_detector_input(parser: argparse.ArgumentParser) -> None:
    """Add the image size and the device of a detector."""
    add_size(parser, default=None, unit=" px (default: as the config's test pipeline does)")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


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
    detector = load_detector(
        args.config, args.checkpoint, args.size, args.annotations, args.classes, device_of(args.device)
    )
    print(f"{detector.toolbox}: {detector.sources}", flush=True)
    return detector


def silence_notes() -> None:
    """Drop notes of PyTorch to developers of the toolboxes, which nobody who runs a command can follow."""
    warnings.filterwarnings("ignore", "torch.meshgrid")
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)


def device_of(device: str | None) -> str:
    """Return the device to run on: a GPU by default, if there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")
