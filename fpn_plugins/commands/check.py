"""Check COCO annotations before training on them, and show which sizes of objects they hold.

Example:
    python tools/check_coco.py --root data/my_set
    python tools/check_coco.py annotations.json images/ --classes cat dog --stats sizes.json --plot sizes.png
"""

import argparse
import json
import sys
from pathlib import Path

from ..data import check_coco, find_split, plot_size_statistics, size_statistics
from ..files import write_atomically


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: arguments without the program's name; None = those of the process.

    Returns:
        The parsed arguments; either `root`, or both `ann_file` and `image_dir` are given.
    """
    parser = argparse.ArgumentParser(description="Check COCO annotations and show the sizes of their objects.")
    parser.add_argument("ann_file", nargs="?", help="COCO annotation file")
    parser.add_argument("image_dir", nargs="?", help="folder that each image's file_name is relative to")
    parser.add_argument("--root", help="folder of a data set; its train and val split are checked")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the model's class names in order")
    parser.add_argument("--stats", metavar="JSON", help="write statistics of object sizes to this file")
    parser.add_argument(
        "--resize", type=int, nargs=2, metavar=("SHORT", "LONG"), help="image size in training, for the pyramid levels"
    )
    parser.add_argument("--plot", metavar="PNG", help="draw the statistics into this file")
    args = parser.parse_args(argv)
    if bool(args.root) == bool(args.ann_file) or bool(args.ann_file) != bool(args.image_dir):
        parser.error("give either ann_file and image_dir, or --root")
    if args.root and (args.stats or args.plot):
        parser.error("--stats and --plot describe one file: give ann_file and image_dir instead of --root")
    if args.resize and not (args.stats or args.plot):
        parser.error("--resize is for the statistics: give --stats or --plot")
    return args


def _check(args: argparse.Namespace) -> None:
    if args.root:
        pairs = [(split.ann_file, split.image_dir) for split in (find_split(args.root, s) for s in ("train", "val"))]
    else:
        pairs = [(Path(args.ann_file), Path(args.image_dir))]
    for ann_file, image_dir in pairs:
        print(check_coco(ann_file, image_dir, args.classes))
    if not (args.stats or args.plot):
        return
    stats = size_statistics(args.ann_file, resize=tuple(args.resize) if args.resize else None)
    if args.stats:
        with write_atomically(args.stats) as temporary:
            temporary.write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")
    if args.plot:
        plot_size_statistics(stats, args.plot)


def main(argv: list[str] | None = None) -> int:
    """Run the tool.

    Args:
        argv: arguments without the program's name; None = those of the process.

    Returns:
        Exit code: 0, or 1 after an error that the user can correct.
    """
    try:
        _check(parse_args(argv))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
