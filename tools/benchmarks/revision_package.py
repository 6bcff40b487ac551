"""Import an older revision of the package beside that of the working tree."""

from __future__ import annotations

import ast
import importlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "fpn_plugins"
BEFORE = "fpn_plugins_before"


def git(*arguments: str) -> bytes:
    """Run a git command in the repository and return its output.

    Raises:
        ValueError: git failed; shows its last line.
    """
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"git {arguments[0]}: {reason[-1] if reason else 'failed'}")
    return done.stdout


def commit_of(revision: str) -> str:
    """Full hash of the commit that a revision names.

    Raises:
        ValueError: the revision names no commit.
    """
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except ValueError as error:
        raise ValueError(f"revision {revision!r} names no commit of {ROOT} ({error})") from None


def has_uncommitted_changes() -> bool:
    """Whether the package in the working tree differs from the last commit."""
    return bool(git("status", "--porcelain", "--", PACKAGE))


def extract(commit: str, folder: Path) -> None:
    """Extract the package of a commit into a folder, under the name `BEFORE`.

    Raises:
        ValueError: the commit has no package, or the package imports itself by its absolute name.
    """
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, "--", PACKAGE))) as archive:
        archive.extractall(folder, filter="data")
    package = (folder / PACKAGE).rename(folder / BEFORE)
    for path in sorted(package.rglob("*.py")):
        for line in own_imports(path.read_text(encoding="utf-8")):
            place = f"{PACKAGE}/{path.relative_to(package)}:{line}"
            raise ValueError(f"{commit}: {place} imports {PACKAGE} by its absolute name, so the revisions would mix")


def own_imports(source: str) -> Iterator[int]:
    """Yield the lines of a module that import the package by its absolute name."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] == PACKAGE for name in names):
            yield node.lineno


def import_before(folder: Path) -> ModuleType:
    """Import the package that `extract` wrote into the folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(BEFORE)
