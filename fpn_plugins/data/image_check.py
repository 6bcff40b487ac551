"""Compare image files with the entries of an annotation file: presence, size, orientation, depth and completeness."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import suffix_of
from .findings import EXAMPLES, Findings, Rule
from .image_headers import BOMB, SAMPLE, ImageHeader, read_headers, sampled
from .pixels import ARRAYS, PixelReader

MISSING = Rule("folder without all images", "copy the missing ones, or remove their entries")
UNREADABLE = Rule("image file that is damaged or cut off", "copy or download it again", "training stops or sees gray")
TOO_LARGE = Rule(
    "image of more pixels than Pillow opens",
    "cut it into parts, such as by `sahi coco slice`",
    "Detectron2 stops, and so do predict and evaluate",
    toolbox="detectron2",
)
SIZE = Rule(
    "image of another size than the annotation file states",
    "correct 'width' and 'height', or take the images that were annotated",
    "Detectron2 stops, and in MMDetection boxes and masks are misplaced",
)
TURNED = Rule(
    "image that its EXIF orientation turns, with the size from before turning",
    "save the image as it is shown (PIL.ImageOps.exif_transpose) with its annotations turned too, or remove the tag",
    "both toolboxes turn the image but not its annotations",
)
MAYBE_TURNED = Rule(
    "image that its EXIF orientation turns without a change of size",
    "make sure that it was annotated as it is shown",
    "the annotations are mirrored or upside down",
    error=False,
)
TURNED_BY_ONE = Rule(
    "TIFF or WebP image with an EXIF orientation, which only one of the toolboxes applies",
    "save the image as it is shown (PIL.ImageOps.exif_transpose), without the tag",
    "its annotations are misplaced",
)
GRAY_16 = Rule(
    "gray image of 16 bits: Detectron2 clips values above 255, MMDetection divides by 256",
    "scale it to 8 bits",
    "it is white in Detectron2, or dark in MMDetection if few of the bits are in use",
    toolbox="detectron2",
)
GRAY_32 = Rule(
    "gray image of 32 bits: Detectron2 clips values above 255, MMDetection cannot read it",
    "scale it to 8 bits",
    "MMDetection stops",
    toolbox="mmdet",
)
BANDS = Rule(
    "image that the toolboxes' own readers do not read: an array, or bands that are no colors",
    "read it by fpn_plugins.LoadImage in MMDetection and INPUT.FPN_PLUGINS in Detectron2 "
    "(fpn-plugins pixels FOLDER prints the lines), and check it by --channels",
    "training stops",
)
DROPPED = Rule(
    "image with more bands or pages than colors, which the toolboxes' own readers drop",
    "read it by fpn_plugins.LoadImage in MMDetection and INPUT.FPN_PLUGINS in Detectron2 if the bands matter",
    error=False,
)
DEEP = Rule(
    "color image of 16 bits, of which the toolboxes' own readers keep the upper 8",
    "read it by fpn_plugins.LoadImage in MMDetection and INPUT.FPN_PLUGINS in Detectron2 "
    "(fpn-plugins pixels FOLDER prints the lines)",
    "images of a camera of 10 or 12 bits are nearly black",
    error=False,
)
CHANNELS = Rule(
    "image of other channels than the reader takes", "set in_chans or bands of the reader", "training stops"
)
CMYK = Rule(
    "CMYK image, which both toolboxes convert without its color profile",
    "convert it to RGB with the profile if colors matter",
    error=False,
)


def check_files(images: Sequence[dict[str, Any]], image_dir: Path, findings: Findings) -> bool:
    """Return whether all files are present.

    Raises:
        FileNotFoundError: files are missing, and there is no error yet among ``findings`` to be reported with that.
    """
    # one listing instead of one query per image: seconds instead of minutes on network file systems
    listed = set(os.listdir(image_dir)) if image_dir.is_dir() else set()
    names = [image["file_name"] for image in images]
    missing = [name for name in names if name not in listed and not (image_dir / name).is_file()]
    if missing:
        fault = (
            f"{len(missing)} of {len(names)} images are not in image_dir={str(image_dir)!r}"
            f"{'' if image_dir.is_dir() else ' (which is not a folder)'}: {', '.join(missing[:EXAMPLES])}"
            f"{', ...' if len(missing) > EXAMPLES else ''}; give the folder that 'file_name' is relative to"
        )
        if not findings.have_errors:
            raise FileNotFoundError(fault)
        findings.add(MISSING, fault)
    return not missing


def check_headers(
    images: Sequence[dict[str, Any]],
    image_dir: Path,
    findings: Findings,
    limit: int | None = SAMPLE,
    reader: PixelReader | None = None,
) -> dict[str, int]:
    """Compare the headers of image files with their entries; return the number of images by color mode.

    Args:
        images: valid entries of the annotation file.
        image_dir: folder that ``file_name`` is relative to.
        findings: receives the faults.
        limit: read at most this many files, evenly spread; ``None`` reads all.
        reader: reader of the images; ``None`` for the toolboxes' own.
    """
    chosen = sampled(images, limit)
    modes: Counter[str] = Counter()
    paths = [image_dir / image["file_name"] for image in chosen]
    for image, header in zip(chosen, read_headers(paths, reader), strict=True):
        where = f"image {image['id']!r} ({image['file_name']})"
        if isinstance(header, str):
            findings.add(TOO_LARGE if header.startswith(BOMB) else UNREADABLE, f"{where}: {header}")
            continue
        modes[header.mode] += 1
        _compare_size(image, header, where, findings)
        if reader is None:
            _check_colors(header, where, findings)
        else:
            problem = reader.problem(header.channels)
            findings.add(CHANNELS, f"{where}: {problem}" if problem else None)
    return dict(modes.most_common())


def _compare_size(image: dict[str, Any], header: ImageHeader, where: str, findings: Findings) -> None:
    stated, stored = (image["width"], image["height"]), (header.width, header.height)
    sizes = f"{where}: {int(stated[0])} x {int(stated[1])} in the annotation file, {stored[0]} x {stored[1]} px"
    if header.orientation != 1 and header.format in ("TIFF", "WEBP"):
        findings.add(TURNED_BY_ONE, f"{sizes}, orientation {header.orientation}")
    elif stated == header.turned_size:
        if header.orientation != 1 and stored == header.turned_size:
            findings.add(MAYBE_TURNED, f"{where}: orientation {header.orientation}")
    elif stated == stored:
        findings.add(TURNED, f"{sizes}, orientation {header.orientation}")
    elif stated == (header.channels, header.width) and suffix_of(image["file_name"]) in ARRAYS:
        findings.add(SIZE, f"{sizes}: an array C H W, for --channels-first")
    else:
        findings.add(SIZE, sizes)


def _check_colors(header: ImageHeader, where: str, findings: Findings) -> None:
    """Find what the toolboxes' own readers cannot read, or read each in its own way."""
    if header.is_stack:
        findings.add(BANDS, f"{where}: {header.channels} channels, {header.mode}")
    if header.drops_bands:
        findings.add(DROPPED, f"{where}: {header.channels} bands")
    if header.deep_colors:
        findings.add(DEEP, where)
    if header.gray_bits > 8:
        findings.add(GRAY_16 if header.gray_bits == 16 else GRAY_32, f"{where}: mode {header.mode}")
    if header.mode == "CMYK":
        findings.add(CMYK, where)
