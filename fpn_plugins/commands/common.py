"""Share code between commands: types of arguments, options, errors without a traceback, files, loaded detectors."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import one_of
from ..data import SAMPLE, DataCheck
from ..data.findings import CHECK_DATA
from ..files import suffix_of, write_atomically

# environment variables with a process's rank on its machine: torchrun, slurm, Open MPI
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
TRACEBACK = "FPN_PLUGINS_TRACEBACK"


@contextmanager
def user_errors(kinds: tuple[type[Exception], ...] = (ValueError, OSError, ImportError)) -> Iterator[None]:
    """Turn errors that a user can correct into a message on standard error and exit code 1.

    ``FPN_PLUGINS_TRACEBACK=1`` shows the traceback of such an error instead.
    """
    try:
        yield
    except kinds as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        message = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            message = f"{os.fspath(error.filename)!r}: {error.strerror}"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(1) from None


def help_without(toolbox: str, argv: Sequence[str], docstring: str | None) -> None:
    """Answer ``--help`` with a command's docstring if the toolbox whose parser it uses is not installed."""
    if importlib.util.find_spec(toolbox) is None and not {"-h", "--help"}.isdisjoint(argv):
        print(
            f"usage: {Path(sys.argv[0]).name} [ARGUMENTS]\n\n{docstring}\n"
            f"(with {toolbox} installed, --help lists all arguments)"
        )
        raise SystemExit(0)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder to write to; ``OSError`` if that, or writing into it, is impossible."""
    if Path(folder).exists() and not Path(folder).is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file; the output is a folder", os.fspath(folder))
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))


def write_json(content: Any, path: str | os.PathLike[str]) -> Path:
    """Write JSON atomically; the folder is created if it does not exist."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def number(kind: type, minimum: float, maximum: float = math.inf) -> Callable[[str], Any]:
    """Make the type of an ``int`` or ``float`` from ``minimum`` to ``maximum``, both included; NaN is no number."""
    name = "a whole number" if kind is int else "a number"
    wanted = f"{name} from {minimum:g} to {maximum:g}" if math.isfinite(maximum) else f"{name} of at least {minimum:g}"

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum or math.isinf(value):
            raise argparse.ArgumentTypeError(f"{text!r} must be {wanted}")
        return value

    return parse


COUNT = number(int, 1, 2**31 - 1)
INDEX = number(int, 0, 2**31 - 1)
BATCH = number(int, 1, 10_000)
PIXELS = number(int, 1, 100_000)
SHARE = number(float, 0, 1)
NOT_NEGATIVE = number(float, 0)
POSITIVE = number(float, 1e-9)


def key_value(text: str) -> str:
    """Return ``KEY=VALUE`` unchanged."""
    key, equals, _ = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY=VALUE")
    return text


def png_file(text: str) -> Path:
    """Return the path of a PNG file to write."""
    return file_of(".png")(text)


def file_of(*suffixes: str) -> Callable[[str], Path]:
    """Make the type of the path of a file to write that has one of the suffixes."""

    def parse(text: str) -> Path:
        path = Path(text)
        if suffix_of(path) not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must be a file {', '.join(suffixes)}")
        return path

    return parse


class ShortLong(argparse.Action):
    """Store a shorter and a longer side, and refuse them in another order."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Store the values."""
        sides: Sequence[int] = values
        if sides[0] > sides[1]:
            raise argparse.ArgumentError(self, f"{sides[0]} {sides[1]}: the shorter side comes first")
        setattr(namespace, self.dest, values)


def add_pairs(parser: argparse.ArgumentParser, option: str, help: str) -> None:
    """Add an option of ``KEY=VALUE`` pairs."""
    parser.add_argument(option, nargs="+", type=key_value, default=[], metavar="KEY=VALUE", help=help)


def add_size(
    parser: argparse._ActionsContainer,
    help: str = "resize images to this shorter side, or to less if the longer side would exceed LONG",
    option: str = "--size",
    names: tuple[str, str] = ("SHORT", "LONG"),
    default: tuple[int, int] | None = (800, 1333),
    unit: str = ", in pixels",
) -> None:
    """Add an option of two lengths in pixels; the default, or ``unit`` without one, is appended to ``help``.

    Two lengths named ``SHORT`` and ``LONG`` have to be in this order.
    """
    stated = f" (default {default[0]} {default[1]} px)" if default else unit
    action = ShortLong if names == ("SHORT", "LONG") else "store"
    parser.add_argument(option, action=action, type=PIXELS, nargs=2, default=default, metavar=names, help=help + stated)


def add_reports(parser: argparse.ArgumentParser, content: str) -> None:
    """Add ``--json`` and ``--plot``, which write ``content`` to files."""
    parser.add_argument("--json", type=Path, help=f"write {content} to this JSON file")
    parser.add_argument("--plot", type=png_file, metavar="PNG", help=f"plot {content} into this file")


def data_check_mode() -> str:
    """Return ``FPN_PLUGINS_CHECK_DATA``: 0 (no check), 1, ``all`` (every image), or ``warn`` (errors do not stop).

    ``"0"`` for all but the first process of a machine. ``ValueError`` for another value.
    """
    local_rank = next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "0")
    mode = one_of(CHECK_DATA, os.environ.get(CHECK_DATA) or "1", ("0", "1", "all", "warn"))
    return mode if local_rank == "0" else "0"


def run_data_check(check: Callable[[int | None], DataCheck]) -> None:
    """Check the data before training or evaluation, as `data_check_mode` says, and print the result.

    Args:
        check: function of the number of image files to read per set, ``None`` for all.

    Raises:
        ValueError: the data has errors.
    """
    mode = data_check_mode()
    if mode == "0":
        return
    print(f"checking the data ({CHECK_DATA}=0 skips this)", flush=True)
    print_data_check(check(None if mode == "all" else SAMPLE), warn=mode == "warn")


def print_data_check(result: DataCheck, warn: bool = False) -> None:
    """Print reports and warnings; raise ``ValueError`` for errors unless ``warn``."""
    if not warn:
        result.require()
    for report in result.reports:
        print(report, flush=True)
    for errors in (True, False):
        findings = result.describe(errors)
        if findings:
            print(f"warning: {findings}", file=sys.stderr, flush=True)
