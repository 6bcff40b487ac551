"""Write files that are either complete or absent, and change shared files one process at a time.

Locks are the operating system's: a process that ends, even killed, gives them up.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.fpn_plugins(\.[^.]*)?")
_WAIT = 0.05  # seconds between two attempts to lock
_SCAN_SHARE = 0.02  # at most this share of the time of writing many files is spent on listing their folder
_next_scan: dict[Path, float] = {}


def is_plain_name(name: object) -> bool:
    """Return whether a name can be part of a file's: ASCII letters, digits, ``_``, ``-`` and ``.``, which is not first.

    Such a name leads to no other folder.
    """
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name, re.ASCII) is not None


def shortened(name: str, length: int) -> str:
    """Return the beginning of a file's name in at most ``length`` bytes; file systems allow 255 for a whole name."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file's name in lower case, ``.onnx`` for ``X.ONNX``, by which its format is chosen."""
    return Path(path).suffix.lower()


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that replaces ``path`` on success and is removed on failure.

    Both paths have the same suffix, the temporary one in lower case. The temporary file exists and is locked while it
    is written: open it for writing, do not move another file onto it. Temporary files of killed writers are removed
    first.

    Raises:
        FileNotFoundError: the folder of ``path`` does not exist.
        OSError: the file cannot be written (disk full, read-only folder); names ``path``.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    remove_abandoned(path.parent)
    try:
        temporary, descriptor = _create_temporary(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)
    except OSError as error:
        if error.errno is None or not (error.filename is None or _TEMPORARY.fullmatch(Path(error.filename).name)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def locked(path: str | os.PathLike[str], timeout: float = 600) -> Iterator[None]:
    """Let one process at a time into the block, by a lock file ``.NAME.lock`` next to ``path``.

    Args:
        path: file or folder that the block reads and changes; it may not exist, its folder must.
        timeout: seconds to wait for another process.

    Raises:
        TimeoutError: another process is still in its block.
        OSError: the lock file cannot be made.
    """
    path = Path(path)
    file = path.with_name(f".{path.name}.lock")
    deadline = time.monotonic() + timeout
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(descriptor, file):
            break
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{str(file)!r} is held by another process for over {timeout:.0f} s; wait for it to end")
        time.sleep(_WAIT)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # before the lock is given up, so that no other process holds it
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of `write_atomically` whose writers were killed, from a folder but not from inside it."""
    start = time.monotonic()
    if start < _next_scan.get(folder, 0):
        return
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for name in found:
        with suppress(OSError):  # another process has removed it, or the file system has no locks
            descriptor = os.open(name, os.O_RDWR)
            try:
                if _lock(descriptor, Path(name)):
                    os.unlink(name)
            finally:
                os.close(descriptor)
    end = time.monotonic()
    _next_scan[folder] = end + (end - start) / _SCAN_SHARE


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create a temporary file and lock it, where the file system has locks; return it and its descriptor."""
    while True:
        # unique, because several processes may write the same file, such as the ranks of one training run
        temporary = path.with_name(f".{shortened(path.stem, 120)}.{uuid.uuid4().hex}.fpn_plugins{suffix_of(path)}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if _lock(descriptor, temporary):
                return temporary, descriptor
        except OSError:
            return temporary, descriptor
        os.close(descriptor)  # `remove_abandoned` of another process was faster, and removes it


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file without waiting; return whether that succeeded and the file is still at ``path``.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("file locks need a POSIX system") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
