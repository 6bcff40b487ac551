"""Checks made before anything is installed, each with a message that says what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that an old Python gets as far as the message that it is too old
    from collections.abc import Callable, Mapping, Sequence

MIN_PYTHON = (3, 10)
TESTED_BELOW = (3, 14)
DISK_VARIABLE = "FPN_PLUGINS_MIN_DISK_GB"
GB_PER_JOB = 1.5  # memory that one compiler process of mmcv's build may need


def check_python(version: Sequence[int] | None = None) -> str | None:
    """Message when the Python that runs is too old."""
    found = tuple(version or sys.version_info)[:3]
    if found[:2] >= MIN_PYTHON:
        return None
    running, needed = ".".join(map(str, found)), ".".join(map(str, MIN_PYTHON))
    return (
        f"this is Python {running} ({sys.executable}), and Python >= {needed} is needed.\n"
        "Name a newer one: make install PYTHON=python3.11"
    )


def python_warning(version: Sequence[int] | None = None) -> str | None:
    """Message when the Python that runs is newer than those tried."""
    found = tuple(version or sys.version_info)[:2]
    if found < TESTED_BELOW:
        return None
    return f"Python {found[0]}.{found[1]} has not been tried, 3.10 to 3.13 have: a package may be missing."


def check_venv_module(find: Callable[[str], object] = importlib.util.find_spec) -> str | None:
    """Message when this Python cannot create environments, as on a Debian without its venv package."""
    missing = [name for name in ("venv", "ensurepip") if find(name) is None]
    if not missing:
        return None
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    return (
        f"{sys.executable} has no module {' and '.join(missing)}, so it cannot create an environment.\n"
        f"On Debian or Ubuntu: apt-get install {package}"
    )


def check_existing_venv(venv: Path, version: tuple[int, int]) -> str | None:
    """Message when there is an environment already, of another Python."""
    config = venv / "pyvenv.cfg"
    lines = config.read_text(encoding="utf-8").splitlines() if config.is_file() else []
    settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    made_with, home = settings.get("version"), settings.get("home", "...")
    if made_with and tuple(map(int, made_with.split(".")[:2])) != version:
        return (
            f"{venv.name} was made with Python {made_with}, and this is Python {version[0]}.{version[1]}.\n"
            f"Name that Python: make TARGET PYTHON={home}/python3. To start anew with this one: make distclean"
        )
    return None


def find_compiler(
    environ: Mapping[str, str] = os.environ, which: Callable[[str], str | None] = shutil.which
) -> str | None:
    """The C++ compiler to build with: $CXX, or the first one on the PATH; None without one."""
    names = [environ["CXX"].split()[0]] if environ.get("CXX", "").strip() else ["c++", "g++", "clang++"]
    return next((name for name in names if which(name)), None)


def check_compiler(
    environ: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
    include: str | None = None,
) -> str | None:
    """Message when mmcv's operators cannot be compiled: no C++ compiler, or no headers of Python."""
    instead = "Or compile nothing: make install MMCV=torchvision"
    if find_compiler(environ, which) is None:
        what = f"CXX={environ['CXX']} is not a program" if environ.get("CXX") else "none of c++, g++, clang++ is found"
        return f"mmcv has to be compiled, and {what}.\nOn Debian or Ubuntu: apt-get install g++\n{instead}"
    header = Path(include or sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
        return (
            f"mmcv has to be compiled, and there is no {header}.\nDebian, Ubuntu: apt-get install {package}\n{instead}"
        )
    return None


def check_disk(root: Path, needed_gb: float, environ: Mapping[str, str] = os.environ) -> str | None:
    """Message when the disk is too full for what is left to install.

    Args:
        root: folder that will hold the environment.
        needed_gb: what the remaining steps need, in GB.
        environ: `FPN_PLUGINS_MIN_DISK_GB` in it takes the place of `needed_gb`.
    """
    override = environ.get(DISK_VARIABLE) or str(needed_gb)
    try:
        needed = float(override)
    except ValueError:
        return f"{DISK_VARIABLE}={override!r} is no number: give a limit in GB, as in 6 or 7.5"
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        return (
            f"{free:.1f} GB are free on the disk of {root}, and {needed:.1f} GB are needed (most of it for torch's "
            f"CUDA libraries).\nFree some space, or lower the limit at your own risk: {DISK_VARIABLE}=6 make install"
        )
    return None


def check_temporary_disk(root: Path, needed_gb: float, environ: Mapping[str, str] = os.environ) -> str | None:
    """Message when pip's temporary files go to another disk that is too small for torch's downloads."""
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free / 1e9
    if environ.get(DISK_VARIABLE) or folder.stat().st_dev == root.stat().st_dev or free >= needed_gb:
        return None
    return (
        f"{free:.1f} GB are free in {folder}, where pip unpacks what it downloads, and {needed_gb:.1f} GB are needed.\n"
        "Name a larger folder: TMPDIR=... make install"
    )


def gpu_without_nvcc(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a GPU that torch finds would make mmcv look for a CUDA compiler that is not there."""
    if environ.get("CUDA_HOME") or environ.get("CUDA_PATH") or environ.get("FORCE_CUDA") == "1":
        return False
    return shutil.which("nvcc") is None and not Path("/usr/local/cuda").is_dir() and platform.system() == "Linux"


def compile_jobs() -> int:
    """How many compiler processes to run at once: as many as there are cores, fewer where memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return max(1, min(cores, int(memory / GB_PER_JOB)))
