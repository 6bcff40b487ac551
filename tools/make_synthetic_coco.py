"""Write the synthetic multi-scale data set in COCO format, and check it.

python tools/make_synthetic_coco.py data/synthetic --num-train 400 --num-val 100
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from synthetic.dataset import make_synthetic_coco

from fpn_plugins.data import PixelReader, check_coco


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `None` reads the arguments of the process."""
    parser = argparse.ArgumentParser(
        description="Write the synthetic multi-scale data set in COCO format",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("root", help="folder to write: new, empty, or an earlier set of the same arguments")
    parser.add_argument("--num-train", type=int, default=400, help="training images")
    parser.add_argument("--num-val", type=int, default=100, help="validation images")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"), help="in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number")
    parser.add_argument("--panoptic", action="store_true", help="paint stuff and write panoptic annotations too")
    parser.add_argument(
        "--infrared", action="store_true", help="write TIFFs of four channels; the last shows the objects"
    )
    parser.add_argument("--workers", type=int, help="threads; one per core, at most 8, if not given")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 1 after an error that the user can correct."""
    args = parse_args(argv)
    try:
        splits = make_synthetic_coco(
            args.root,
            args.num_train,
            args.num_val,
            (args.size[1], args.size[0]),
            args.seed,
            workers=args.workers,
            panoptic=args.panoptic,
            infrared=args.infrared,
        )
        for split in splits.values():
            print(check_coco(split.ann_file, split.image_dir, reader=PixelReader(4) if args.infrared else None))
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
