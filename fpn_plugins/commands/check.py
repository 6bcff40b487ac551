"""Check COCO annotations before training on them, and report object sizes.

    python tools/check_coco.py --root data/my_set
    python tools/check_coco.py annotations.json images/ --classes cat dog --json sizes.json --plot sizes.png

If the data cannot be trained on or evaluated, exits with code 1 and one message that lists every problem. Image files
are compared with the annotations by their headers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..data import (
    SAMPLE,
    CocoSet,
    PanopticSet,
    PixelReader,
    check_data,
    coco_set,
    find_panoptic_split,
    find_split,
    size_statistics,
)
from ..data.coco_set import USES
from ..visualization import plot_size_statistics
from .common import COUNT, add_reports, add_size, print_data_check, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; either ``root``, or both ``ann_file`` and ``image_dir`` are given."""
    parser = argparse.ArgumentParser(description="Check COCO annotations and report object sizes")
    parser.add_argument("ann_file", nargs="?", type=Path, help="COCO annotation file")
    parser.add_argument("image_dir", nargs="?", type=Path, help="folder that each image's file_name is relative to")
    root = "data set folder, instead of files; checks its train split, and val if there is one"
    parser.add_argument("--root", help=root)
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="class names of the model, in order")
    use = "what the file is for; evaluation reads keys that training does not (default both)"
    parser.add_argument("--use", choices=USES, default="both", help=use)
    parser.add_argument("--masks", action="store_true", help="require that each object has a mask")
    parser.add_argument("--panoptic", action="store_true", help="with --root: check the panoptic files as well")
    parser.add_argument("--all", action="store_true", help=f"read the header of every image, not of {SAMPLE} per file")
    channels = "images have this number of channels, read by fpn_plugins.LoadImage or INPUT.FPN_PLUGINS"
    parser.add_argument("--channels", type=COUNT, help=channels)
    parser.add_argument("--channels-first", action="store_true", help="with --channels: .npy files hold C H W")
    add_reports(parser, "statistics of object sizes")
    add_size(parser, "image size in training, for the statistics of pyramid levels", default=None)
    args = parser.parse_args(argv)
    if bool(args.root) == bool(args.ann_file) or bool(args.ann_file) != bool(args.image_dir):
        parser.error("give either ann_file and image_dir, or --root")
    if args.root and (args.json or args.plot or args.use != "both"):
        parser.error("--json, --plot and --use describe one file: give ann_file and image_dir instead of --root")
    if args.panoptic and not args.root:
        parser.error("--panoptic finds its files in a data set folder: give --root")
    if args.channels_first and not args.channels:
        parser.error("--channels-first describes the arrays that --channels is for: give it too")
    if args.size and not (args.json or args.plot):
        parser.error("--size affects only the statistics: give --json or --plot too")
    return args


def _sets(args: argparse.Namespace) -> list[CocoSet | PanopticSet]:
    """Find the annotation files to check; those of a folder belong to one model."""
    reader = PixelReader(args.channels, channels_first=args.channels_first) if args.channels else None
    if not args.root:
        return [coco_set(args.ann_file, args.image_dir, args.classes, args.use, args.masks, reader)]
    sets: list[CocoSet | PanopticSet] = []
    for split in ("train", "val"):
        try:
            found = find_split(args.root, split)
        except FileNotFoundError as error:
            if split == "train":
                raise
            # a recipe can set training images aside, so that the folder is not wrong
            remedy = "or set a part of the training images aside: train with --val-part 0.2"
            print(f"warning: {error}; {remedy}", file=sys.stderr, flush=True)
            continue
        sets.append(coco_set(found.ann_file, found.image_dir, args.classes, split, args.masks, reader))
    for split in ("train", "val") if args.panoptic else ():
        files = find_panoptic_split(args.root, split)
        folders = (files.ann_file, files.image_dir, files.mask_dir, files.stuff_dir, files.instances_file)
        sets.append(PanopticSet(*folders, trained=split == "train", evaluated=split == "val"))
    return sets


def main(argv: Sequence[str] | None = None) -> None:
    """Check the annotations, print a report, and write the statistics."""
    args = parse_args(argv)
    with user_errors():
        print_data_check(check_data(_sets(args), limit=None if args.all else SAMPLE))
        if args.json or args.plot:
            statistics = size_statistics(args.ann_file, resize=tuple(args.size) if args.size else None)
            if args.json:
                write_json(statistics, args.json)
            if args.plot:
                plot_size_statistics(statistics, args.plot)
