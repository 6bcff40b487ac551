"""Put our operators in the place of mmcv's compiled extension, and take them out again: one file, ``mmcv/_ext.py``.

A compiled extension beside that file is the one that Python imports, so it has precedence wherever it exists.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from ...files import write_atomically

NAME = "_ext.py"
MARK = "# Written by fpn_plugins: mmcv's operators without a compiled extension."
SHIM = f"""{MARK}
# `fpn-plugins mmcv-operators status` describes it, `fpn-plugins mmcv-operators remove` deletes it.
try:
    from fpn_plugins.adapters.mmcv.extension import __getattr__  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"{{__file__}} takes mmcv's operators from fpn_plugins, which cannot be imported ({{error}}): "
        "install fpn_plugins, or delete that file and build mmcv with its compiled extension"
    ) from error
"""
# what mmcv lacks if it was installed without the Python files of its operators
NO_OPERATORS = (
    "has no folder ops, so it holds no operators at all, as some builds of mmcv-lite do: uninstall it and install mmcv "
    "(it need not be compiled: pip install mmcv, without --no-build-isolation, leaves the extension out)"
)
UNINSTALLED = f"was uninstalled, and some files are left: `mmcv-operators remove` deletes {NAME}; then install mmcv"


class Mmcv(NamedTuple):
    """State of an installed mmcv.

    Attributes:
        folder: mmcv's folder.
        is_complete: whether it is more than files that were left when mmcv was uninstalled.
        has_operators: whether the Python files of the operators are there.
        compiled: files of a compiled extension for this Python.
        foreign_builds: files of a compiled extension for another Python or system.
        file: text of ``_ext.py``, ``None`` if there is no such file.
    """

    folder: Path
    is_complete: bool
    has_operators: bool
    compiled: list[Path]
    foreign_builds: list[Path]
    file: str | None

    @property
    def shim(self) -> Path:
        """Path of the file that brings in our operators."""
        return self.folder / NAME

    @property
    def is_ours(self) -> bool:
        """Whether ``_ext.py`` was written by `install`."""
        return self.file is not None and self.file.startswith(MARK)


def find_mmcv() -> Mmcv:
    """Look at the mmcv that Python would import, without importing it.

    Raises:
        ImportError: mmcv is not installed.
    """
    spec = importlib.util.find_spec("mmcv")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("mmcv is not installed in this environment: install mmcv, which need not be compiled")
    folder = Path(next(iter(spec.submodule_search_locations)))
    builds = sorted(path for path in folder.glob("_ext*") if path.suffix in (".so", ".pyd", ".dylib"))
    compiled = [path for path in builds if path.name in {f"_ext{suffix}" for suffix in EXTENSION_SUFFIXES}]
    shim = folder / NAME
    text = shim.read_text(encoding="utf-8", errors="replace") if shim.is_file() else None
    others = [path for path in builds if path not in compiled]
    is_complete, has_operators = ((path / "__init__.py").is_file() for path in (folder, folder / "ops"))
    return Mmcv(folder, is_complete, has_operators, compiled, others, text)


def install() -> Path:
    """Write ``mmcv/_ext.py``, and return its path; a file that `install` wrote before is renewed.

    Raises:
        ImportError: mmcv or torchvision is not installed, or mmcv lacks the Python files of its operators.
        FileExistsError: a compiled extension or somebody else's ``_ext.py`` is there.
        OSError: mmcv's folder cannot be written.
    """
    found = find_mmcv()
    if found.compiled:
        raise FileExistsError(
            f"{found.compiled[0]} is mmcv's compiled extension, which Python uses: there is nothing to install. "
            "If it does not load (see `mmcv-operators status`), delete it or reinstall mmcv"
        )
    if found.foreign_builds:
        raise FileExistsError(
            f"{found.foreign_builds[0]} is an extension compiled for another Python or system: reinstall mmcv, or "
            "delete that file if no other Python uses this folder"
        )
    if found.file is not None and not found.is_ours:
        raise FileExistsError(f"{found.shim} was not written by fpn_plugins: move it away if you do not need it")
    if not found.has_operators:
        raise ImportError(f"mmcv in {found.folder} {NO_OPERATORS if found.is_complete else UNINSTALLED}")
    if importlib.util.find_spec("torchvision") is None:
        raise ImportError("mmcv's operators are computed with torchvision, which is not installed: install it first")
    with _writing(found.shim), write_atomically(found.shim) as temporary:
        temporary.write_text(SHIM, encoding="utf-8")
    return found.shim


def remove() -> Path | None:
    """Delete the file that `install` wrote, and return its path; ``None`` if there is none.

    Raises:
        ImportError: mmcv is not installed.
        FileExistsError: ``_ext.py`` is somebody else's.
        OSError: mmcv's folder cannot be written.
    """
    found = find_mmcv()
    if found.file is None:
        return None
    if not found.is_ours:
        raise FileExistsError(f"{found.shim} was not written by fpn_plugins, so it stays")
    with _writing(found.shim):
        found.shim.unlink()
        Path(importlib.util.cache_from_source(os.fspath(found.shim))).unlink(missing_ok=True)
    return found.shim


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say what to do where a folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot change {path} ({error.strerror or error}): run this as the owner of that folder, or in a virtual "
            "environment of your own"
        ) from error


def _load_error() -> str:
    """Say why the compiled extension does not load; empty if it does."""
    import torch  # noqa: F401  (the extension's symbols)

    try:
        import mmcv._ext  # noqa: F401
    except ImportError as error:
        return f", which does not load ({error}): delete it or reinstall mmcv, built for this PyTorch"
    return ""


def status() -> list[str]:
    """Describe, line by line, where mmcv is and which operators it uses.

    Raises:
        ImportError: mmcv is not installed.
    """
    found = find_mmcv()
    lines = [f"mmcv: {found.folder}"]
    if not found.has_operators:
        return [*lines, f"operators: none; mmcv {NO_OPERATORS if found.is_complete else UNINSTALLED}"]
    if found.compiled:
        lines.append(f"operators: mmcv's compiled extension {found.compiled[0].name}" + _load_error())
        if found.is_ours:
            lines.append(f"{NAME} of fpn_plugins is there too and has no effect; `mmcv-operators remove` deletes it")
    elif found.is_ours:
        lines.append(f"operators: those of fpn_plugins, by {NAME}")
        if found.file != SHIM:
            lines.append(f"{NAME} was written by another version of fpn_plugins; `mmcv-operators install` renews it")
    elif found.file is not None:
        lines.append(f"operators: those of {NAME}, which was not written by fpn_plugins")
    else:
        lines.append("operators: none, so `import mmcv.ops` fails; `mmcv-operators install` adds those of fpn_plugins")
    lines += [f"{path.name} was compiled for another Python or system" for path in found.foreign_builds]
    return lines
