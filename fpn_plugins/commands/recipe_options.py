"""Options of the command line that plans a training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .common import COUNT, INDEX, PIXELS, POSITIVE
from .pixels import add_reader_options


def parse_args(toolbox: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parse the options of a recipe."""
    from ..recipes.plan import FLIPS
    from ..recipes.settings import DETECTORS, SETTINGS

    parser = argparse.ArgumentParser(description=f"Plan and run a training with {toolbox} on a folder of pictures")
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="a COCO-format folder")
    parser.add_argument(
        "--recipe", required=True, choices=tuple(SETTINGS), help="few: dozens of images, small: hundreds"
    )
    parser.add_argument("--detector", choices=DETECTORS, default=DETECTORS[0], help="default: retinanet")
    parser.add_argument("--backbone", metavar="NAME", help="timm network (default: MobileNetV2, on a GPU ResNet-50)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="backbone's weights (default: timm downloads them)"
    )
    parser.add_argument("--neck", default="FPN", metavar="NAME", help="neck of this package (default: FPN)")
    sides = "shorter side of images, and limit of the longer, in pixels (default: by the sizes of images and objects)"
    parser.add_argument("--size", nargs=2, type=PIXELS, metavar=("SHORT", "LONG"), help=sides)
    finest = "stride of RetinaNet's finest map: 4 finds more small objects, and takes longer (default: by the objects)"
    parser.add_argument("--finest", type=int, choices=(4, 8), help=finest)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=COUNT, metavar="N", help="length in passes over the images")
    length.add_argument("--minutes", type=POSITIVE, metavar="M", help="length in minutes on an idle machine")
    up = "all: up and down look alike, as under a microscope or from above (default: horizontal)"
    parser.add_argument("--flips", choices=FLIPS, default=FLIPS[0], help=up)
    part = "set this part of the training images aside, for a folder without validation images, such as 0.2"
    parser.add_argument("--val-part", type=POSITIVE, metavar="PART", help=part)
    add_reader_options(parser)
    parser.add_argument("--seed", type=INDEX, default=0, help="seed of the training (default 0)")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="folder of config and training")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--dry-run", action="store_true", help="print the plan, and write and train nothing")
    extent.add_argument("--config-only", action="store_true", help="write the config, to edit it, and train nothing")
    args, rest = parser.parse_known_args(argv)
    if rest:
        parser.error(
            f"{rest} cannot be combined with --data: write the config by --config-only, and train with that and them"
        )
    return args


@contextmanager
def recipe_named(command: str, argv: Sequence[str] | None) -> Iterator[None]:
    """Name the options of a recipe after a toolbox's own ``--help``."""
    try:
        yield
    except SystemExit as stop:
        if not stop.code and not {"-h", "--help"}.isdisjoint(sys.argv[1:] if argv is None else argv):
            print(
                f"\nTo plan a training on images of your own, in a COCO-format folder:\n"
                f"  fpn-plugins {command} --data FOLDER --recipe few|small|standard\n"
                f"  fpn-plugins {command} --data FOLDER --help"
            )
        raise


def sets_aside(toolbox: str, argv: Sequence[str] | None) -> bool:
    """Return whether the command line of a recipe sets a part of the images aside."""
    return parse_args(toolbox, sys.argv[1:] if argv is None else argv).val_part is not None
