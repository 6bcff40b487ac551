"""List the images and videos that a command is to read."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.pixels import ARRAYS
from ..files import suffix_of
from ..inference import IMAGES, VIDEOS


def files_of(inputs: Sequence[str], output: Path) -> list[Path]:
    """List images and videos, once each: files, those in folders except ``output``, and matches of globs.

    Hidden files in folders are left out: macOS writes such a file beside each image on drives of other systems.

    Raises:
        FileNotFoundError: an input does not exist, or has no images or videos.
        ValueError: a file that is neither an image nor a video, or a folder that is, or is in, ``output``.
    """
    suffixes, files = (*IMAGES, *ARRAYS, *VIDEOS), []
    for name in inputs:
        matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not matches:
            raise FileNotFoundError(f"input {name!r} does not exist")
        found: list[Path] = []
        for path in map(Path, matches):
            if str(path) == str(Path(name)) and path.is_dir() and path.resolve().is_relative_to(output.resolve()):
                raise ValueError(f"input {str(path)!r} is the output, or in it; choose another folder by --out")
            found += in_folder(path, output.resolve()) if path.is_dir() else [path]
        pictures = [path for path in found if suffix_of(path) in suffixes and path.is_file()]
        if not pictures:
            kind = FileNotFoundError if found != [Path(name)] else ValueError
            raise kind(f"input {name!r}: no image or video; expected files {', '.join(suffixes)}")
        files += pictures
    return list({path.resolve(): path for path in files}.values())


def in_folder(folder: Path, output: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, without hidden ones and those in ``output``."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and output not in path.resolve().parents:
            yield path


def without_arrays(files: Sequence[Path], named: Sequence[str]) -> list[Path]:
    """Leave out arrays that were found in folders, for a detector of colors; ``FileNotFoundError`` if none is left."""
    left = [path for path in files if suffix_of(path) not in ARRAYS or str(path) in named]
    if not left:
        raise FileNotFoundError(f"inputs {list(named)} hold arrays alone, which this detector of colors does not read")
    return left
