"""Check files of ``torch.save`` before ``torch.load(weights_only=True)`` reads them.

PyTorch executes nothing, but it neither bounds the memory that a file asks for, nor says which object it refuses.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

from .arrays import array_table
from .unpickling import TableUnpickler

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # starts files of torch.save before PyTorch 1.6


def check_torch(path: Path, arrays: bool = False) -> tuple[set[str], Any]:
    """Go through the pickled content of a file of ``torch.save`` without reading its tensors.

    Args:
        path: the file.
        arrays: count the memory of NumPy arrays, too, because they will be rebuilt.

    Returns:
        Globals that the file names, and its content with placeholders for tensors and other objects.

    Raises:
        UnpicklingError: a global other than those of weights and numbers, or content that would use unbounded memory.
        zipfile.BadZipFile: a damaged archive.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return _check_old(file, size, arrays)
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UnpicklingError("refused compressed records, which torch.save does not write")
            names = [entry.filename for entry in entries]
            if sum(entry.file_size for entry in entries) > size or len(set(names)) < len(names):
                raise UnpicklingError("refused records that overlap")
            pickled = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if len(pickled) != 1:
                raise UnpicklingError("the archive is not one of torch.save, because it has no data.pkl")
            start = pickled[0].replace("data.pkl", "data/")
            records = {entry.filename.removeprefix(start): entry.file_size for entry in entries}
            with archive.open(pickled[0]) as record:
                checker = _checker(record, size, records, arrays)
                return checker.used, checker.load()


def _checker(file: IO[bytes], size: int, records: dict[str, int] | None, arrays: bool) -> TableUnpickler:
    checker = TableUnpickler(file, size, records)
    checker.table |= array_table(checker.count) if arrays else {}
    return checker


def _check_old(file: IO[bytes], size: int, arrays: bool) -> tuple[set[str], Any]:
    file.seek(0)
    used: set[str] = set()
    content = None
    for part in ("magic number", "version", "system", "content", "keys"):
        checker = _checker(file, size, None, arrays)
        found = checker.load()
        used |= checker.used
        if part == "magic number" and found != MAGIC_NUMBER:
            raise UnpicklingError("the file is not one of torch.save")
        content = found if part == "content" else content
    return used, content
