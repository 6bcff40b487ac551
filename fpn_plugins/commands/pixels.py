"""Compute mean, standard deviation and percentiles of the pixels of each channel, and print lines for configs.

    fpn-plugins pixels FOLDER [--max-value 4095] [--bands 0 1 2 3] [--json pixels.json]

FOLDER has images of one camera, of any number of channels: TIFF, NPY, PNG and others. Of a COCO-format folder, the
training images are read. ``--max-value`` is the value of a full pixel, which becomes 255.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data import PixelReader, PixelStatistics, pixel_statistics
from ..data.image_headers import sampled
from ..data.pixel_statistics import image_files
from .common import COUNT, INDEX, POSITIVE, user_errors, write_json
from .progress import Progress


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compute statistics of pixels, and print lines for configs")
    parser.add_argument("folder", type=Path, help="images, or a COCO-format folder, whose training images are read")
    add_reader_options(parser)
    parser.add_argument("--num-images", type=COUNT, help="read this many images only, evenly spread")
    parser.add_argument("--json", type=Path, help="write the statistics to this JSON file")
    return parser.parse_args(argv)


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a `PixelReader`, but for its number of channels."""
    known = "value of a full pixel, which becomes 255 (default: 255 for 8 bits, 65535 for 16; other values stay)"
    parser.add_argument("--max-value", type=POSITIVE, help=known)
    parser.add_argument("--bands", type=INDEX, nargs="+", help="channels to read, in this order, counted from 0")
    parser.add_argument("--channels-first", action="store_true", help=".npy files hold C H W")


def table(found: PixelStatistics) -> str:
    """Lay out the statistics in the values of the files, a line per channel."""
    names = ["mean", "std", *(f"{percent} %" for percent in found.percentiles)]
    lines = [f"{'channel':<8}" + "".join(f"{name:>12}" for name in names)]
    columns = [found.mean, found.std, *found.percentiles.values()]
    for channel in range(found.channels):
        lines.append(f"{channel:<8}" + "".join(f"{column[channel]:>12.6g}" for column in columns))
    return "\n".join(lines)


def config_lines(found: PixelStatistics, reader: PixelReader) -> str:
    """Write the lines of both toolboxes' configs for a reader."""
    means, stds = found.normalization(reader.max_value)
    given = reader.options()
    loading = "".join(f", {key}={value}" for key, value in given.items())
    node = {"ENABLED": "true", **{key.upper(): value for key, value in given.items() if key != "in_chans"}}
    keys = ", ".join(f"{key}: {str(value).lower() if value is True else value}" for key, value in node.items())
    mapper = "".join(f", {key}={value}" for key, value in given.items())
    return "\n".join(
        [
            "MMDetection, in the place of LoadImageFromFile and of the data preprocessor:",
            f'  dict(type="fpn_plugins.LoadImage"{loading})',
            f'  dict(type="fpn_plugins.DetDataPreprocessor", mean={means}, std={stds}, bgr_to_rgb=False, '
            "pad_size_divisor=32)",
            "Detectron2, YAML:",
            f"  INPUT: {{FORMAT: RGB, FPN_PLUGINS: {{{keys}}}}}",
            f"  MODEL: {{PIXEL_MEAN: {means}, PIXEL_STD: {stds}}}",
            "Detectron2, LazyConfig:",
            f"  dataloader.train.mapper.update(_target_=PixelMapper{mapper}, image_format='RGB')  # and test",
            f"  model.update(pixel_mean={means}, pixel_std={stds}, input_format='RGB')",
            f"backbone: in_chans={found.channels}; weights for color images are adapted",
            *[f"channel {channel} is the same everywhere: leave it out by --bands" for channel in found.flat],
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the images, print the table and the lines, and write the statistics."""
    args = parse_args(argv)
    with user_errors():
        chosen = PixelReader(len(args.bands or [0]), args.max_value, args.bands, args.channels_first)
        files = image_files(args.folder)
        files = list(sampled(files, args.num_images))
        with Progress(len(files)) as progress:
            found = pixel_statistics(_counted(files, progress), chosen)
        reader = PixelReader(found.channels, args.max_value or found.max_value, args.bands, args.channels_first)
        types = ", ".join(f"{name} ({number})" for name, number in found.dtypes.items())
        print(f"{found.images} images of {found.channels} channels: {types}\n{table(found)}\n")
        print(config_lines(found, reader))
        if args.json:
            print(f"wrote {write_json({**asdict(found), 'reader': asdict(reader)}, args.json)}")


def _counted(files: Sequence[Path], progress: Progress) -> Any:
    """Yield files, and count each when the next one is asked for."""
    for file in files:
        yield file
        progress.advance()
        progress.finish_file()
