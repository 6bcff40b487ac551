"""Reduce a COCO-format folder to a few images, the same for training and validation.

python tools/make_coco_subset.py data/coco data/coco16 --num-images 16
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..data import make_coco_subset
from .common import COUNT, user_errors


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Reduce a COCO-format folder to a few images")
    parser.add_argument("root", help="COCO-format folder")
    parser.add_argument("target", help="folder to write")
    parser.add_argument("--num-images", type=COUNT, default=16, help="number of images (default 16)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the subset."""
    args = parse_args(argv)
    with user_errors():
        print(make_coco_subset(args.root, args.target, args.num_images))
