"""Download files of weights completely or not at all, and explain what to do where that fails."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch

from ..files import locked, write_atomically

# libraries that download for others; their errors are not all of a built-in kind
_CLIENTS = ("httpx", "httpcore", "huggingface_hub", "requests", "safetensors", "safetensors_rust", "urllib3")
_CHUNK, _LENGTH = 1 << 18, 300  # bytes, characters
_TIMEOUT = 60  # seconds without an answer


class DownloadError(FileNotFoundError, RuntimeError):
    """A file cannot be downloaded, or only a part of it came; the message names the address and the remedy."""


@contextmanager
def fetching(what: str, remedy: str, *more: type[Exception]) -> Iterator[None]:
    """Turn the errors of a download into a `DownloadError`.

    Args:
        what: completes "cannot download ...", with the address.
        remedy: how to do without the network.
        more: further kinds of errors that mean that the download failed.
    """
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not isinstance(error, (OSError, HTTPException, *more)) and library not in _CLIENTS:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"cannot download {what} ({reason[:_LENGTH]}); {remedy}, or try again when the network works"
        ) from error


def download(address: str, path: Path, remedy: str, sha256: str | None = None) -> Path:
    """Download a file unless it is there; the folder is created, and one process at a time downloads.

    Args:
        address: URL.
        path: file to write.
        remedy: how to do without the network, for the error; the place of the file is named first.
        sha256: expected digest.

    Returns:
        ``path``.

    Raises:
        DownloadError: the address does not answer, or only a part of the file came; nothing is written.
        ValueError: the file has another digest; nothing is written.
        OSError: the file cannot be written; names it.
    """
    if path.is_file():  # also in a folder that cannot be written
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, timeout=3600):
        if not path.is_file():  # unless another process was faster
            digest = hashlib.sha256()
            with write_atomically(path) as temporary, open(temporary, "wb") as file:
                for chunk in _chunks(address, path, f"put the file into {str(path.parent)!r}{remedy}"):
                    file.write(chunk)
                    digest.update(chunk)
                if sha256 not in (None, found := digest.hexdigest()):
                    raise ValueError(f"{address!r} is damaged or was replaced: sha256 {found}, expected {sha256}")
    return path


def _chunks(address: str, path: Path, remedy: str) -> Iterator[bytes]:
    """Yield an address's content, with a progress bar on a terminal."""
    request, received = Request(address, headers={"User-Agent": "fpn_plugins"}), 0
    with fetching(repr(address), remedy), urlopen(request, timeout=_TIMEOUT) as source:
        length = int(source.headers.get("Content-Length") or 0)
        options: Any = {"unit": "B", "unit_scale": True, "disable": not sys.stderr.isatty()}
        with torch.hub.tqdm(total=length or None, desc=path.name, **options) as bar:
            while chunk := source.read(_CHUNK):
                received += len(chunk)
                bar.update(len(chunk))
                yield chunk
        if length and received != length:  # http.client does not report an end that comes too early
            raise ConnectionError(f"the connection broke after {received} of {length} bytes")
