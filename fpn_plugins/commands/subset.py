"""Cut a COCO-format folder down to a few images, the same for training and validation.

python tools/make_coco_subset.py data/coco data/coco16 --num-images 16
"""

from __future__ import annotations

import argparse

from ..data import make_coco_subset
from .common import user_errors


def main() -> None:
    """Parse the command line and write the subset."""
    parser = argparse.ArgumentParser(description="Cut a COCO-format folder down to a few images")
    parser.add_argument("root", help="COCO-format folder")
    parser.add_argument("target", help="folder to write")
    parser.add_argument("--num-images", type=int, default=16)
    args = parser.parse_args()
    with user_errors():
        print(make_coco_subset(args.root, args.target, args.num_images))
