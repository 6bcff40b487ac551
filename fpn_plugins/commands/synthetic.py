"""Write the synthetic multi-scale data set in COCO format.

Example:
    python tools/make_synthetic_coco.py data/synthetic --num-train 400 --num-val 100
"""

import argparse
import sys

from ..data import check_coco, make_synthetic_coco


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: arguments without the program's name; None = those of the process.

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Write the synthetic multi-scale data set in COCO format.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", help="folder to write into: new, empty, or an earlier set of the same arguments")
    parser.add_argument("--num-train", type=int, default=400, help="number of training images")
    parser.add_argument("--num-val", type=int, default=100, help="number of validation images")
    parser.add_argument("--image-size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"), help="in px")
    parser.add_argument("--seed", type=int, default=0, help="of every random number")
    parser.add_argument(
        "--panoptic", action="store_true", help="with stuff in the background, and panoptic annotations"
    )
    parser.add_argument("--workers", type=int, help="number of threads; without it one per core, at most 8")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool.

    Args:
        argv: arguments without the program's name; None = those of the process.

    Returns:
        Exit code: 0, or 1 after an error that the user can correct.
    """
    args = parse_args(argv)
    try:
        splits = make_synthetic_coco(
            args.root,
            args.num_train,
            args.num_val,
            tuple(args.image_size),
            args.seed,
            workers=args.workers,
            panoptic=args.panoptic,
        )
        for split in splits.values():
            print(check_coco(split.ann_file, split.image_dir))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
