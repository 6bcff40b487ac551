"""Check COCO annotations before training on them, and report object sizes.

    python tools/check_coco.py --root data/my_set
    python tools/check_coco.py annotations.json images/ --classes cat dog --json sizes.json --plot sizes.png

If the annotations cannot be trained on, exits with code 1 and one message that lists every problem.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..data import check_coco, find_split, size_statistics
from ..visualization import plot_size_statistics
from .common import add_reports, add_size, user_errors, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; either ``root``, or both ``ann_file`` and ``image_dir`` are given."""
    parser = argparse.ArgumentParser(description="Check COCO annotations and report object sizes")
    parser.add_argument("ann_file", nargs="?", type=Path, help="COCO annotation file")
    parser.add_argument("image_dir", nargs="?", type=Path, help="folder that each image's file_name is relative to")
    parser.add_argument("--root", help="data set folder, instead of files; checks its train and val splits")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="class names of the model, in order")
    add_reports(parser, "statistics of object sizes")
    add_size(parser, "image size in training, for the statistics of pyramid levels", "--resize", default=None)
    args = parser.parse_args(argv)
    if bool(args.root) == bool(args.ann_file) or bool(args.ann_file) != bool(args.image_dir):
        parser.error("give either ann_file and image_dir, or --root")
    if args.root and (args.json or args.plot):
        parser.error("--json and --plot describe one file: give ann_file and image_dir instead of --root")
    if args.resize and not (args.json or args.plot):
        parser.error("--resize affects only the statistics: give --json or --plot too")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Check the annotations, print a report, and write the statistics."""
    args = parse_args(argv)
    with user_errors():
        pairs = [(args.ann_file, args.image_dir)]
        if args.root:
            splits = [find_split(args.root, split) for split in ("train", "val")]
            pairs = [(split.ann_file, split.image_dir) for split in splits]
        for ann_file, image_dir in pairs:
            print(check_coco(ann_file, image_dir, args.classes))
        if args.json or args.plot:
            statistics = size_statistics(args.ann_file, resize=tuple(args.resize) if args.resize else None)
            if args.json:
                write_json(statistics, args.json)
            if args.plot:
                plot_size_statistics(statistics, args.plot)
