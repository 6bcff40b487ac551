"""Tell exported files by their suffix, and read what they say about themselves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ...checks import one_of
from ...files import suffix_of

# engine -> suffixes of the files that it runs; the first engine of a suffix is the default
ENGINES = {"onnxruntime": (".onnx",), "openvino": (".xml", ".onnx"), "torch": (".pt2", ".torchscript")}
SUFFIXES = tuple(dict.fromkeys(suffix for suffixes in ENGINES.values() for suffix in suffixes))


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an exported detector."""
    return suffix_of(path) in SUFFIXES


def engine_for(path: str | os.PathLike[str], engine: str | None = None) -> str:
    """Return the engine that runs a file, by default by its suffix.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, or an engine that does not run it.
    """
    path = Path(path)
    able = [name for name, suffixes in ENGINES.items() if suffix_of(path) in suffixes]
    if not able:
        raise ValueError(f"path={str(path)!r} is no exported detector; expected a file {', '.join(SUFFIXES)}")
    if engine is not None and one_of("engine", engine, ENGINES) not in able:
        raise ValueError(
            f"engine={engine!r} runs files {', '.join(ENGINES[engine])}, and {str(path)!r} runs in {', '.join(able)}; "
            "leave engine out, or export the detector to one of these formats"
        )
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r} does not exist; `fpn-plugins export` writes it")
    return engine or able[0]


def weights_beside(path: str | os.PathLike[str]) -> Path:
    """Return the file of weights beside an OpenVINO graph: the same name with ``.bin``, or a suffix in capitals.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(path)
    weights = path.with_suffix(".bin")
    names = [name for name in os.listdir(path.parent) if Path(name).stem == path.stem and suffix_of(name) == ".bin"]
    if weights.name not in names and not names:
        raise ValueError(
            f"path={str(path)!r} has its weights in {weights.name!r} beside it, which does not exist; move, copy and "
            "rename both files together"
        )
    return weights if weights.name in names else weights.with_name(min(names))


def digest_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 digest of a file, which may be larger than memory."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
