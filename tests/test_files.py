"""Files are complete or absent; leftovers of killed writers go, those of living ones stay; locks end with processes."""

from __future__ import annotations

import ast
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fpn_plugins import files
from fpn_plugins.files import locked, write_atomically
from fpn_plugins.weights import write_checkpoint

# suffixes of the project's own files, or already in lower case
OWN_SUFFIXES = {"packaged.py", "installation.py", "detector_options.py", "programs.py", "files.py"}
ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = {"w": torch.ones(100_000)}
# imports the module alone, which takes a tenth of importing the package
START = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
path = sys.argv[2]
"""
WRITE_SLOWLY = (
    "with files.write_atomically(path) as t:\n    t.write_text('x'); print('ready', flush=True); time.sleep(60)"
)
HOLD = "with files.locked(path):\n    print('ready', flush=True); time.sleep(60)"
COUNT = """
for _ in range(25):
    with files.locked(path):
        number = int(open(path).read())
        time.sleep(0.001)
        with files.write_atomically(path) as t:
            t.write_text(str(number + 1))
"""


def start(code: str, path: Path, wait: bool = True) -> subprocess.Popen:
    """Run code in another process, and wait until it is ready."""
    command = [sys.executable, "-c", START + code, str(ROOT / "fpn_plugins" / "files.py"), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if wait:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def write(path: Path, text: str) -> None:
    files._next_scan.clear()  # a folder is not listed again at once
    with write_atomically(path) as temporary:
        temporary.write_text(text)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "old")
    with pytest.raises(KeyError), write_atomically(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_the_permissions_are_those_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    for suffix in (".pth", ".pkl", ".safetensors"):
        path = write_checkpoint(WEIGHTS, tmp_path / f"w{suffix}")
        assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_leftovers_of_killed_writers_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    killed, living = start(WRITE_SLOWLY, tmp_path / "a.txt"), start(WRITE_SLOWLY, tmp_path / "b.txt")
    foreign = [".a.txt.swp", ".x.d41d8cd98f00b204e9800998ecf8427e.png", "a.fpn_plugins.txt"]
    for name in foreign:
        (tmp_path / name).touch()
    kill(killed)
    assert len(os.listdir(tmp_path)) == 2 + len(foreign)
    write(tmp_path / "c.txt", "new")
    left = set(os.listdir(tmp_path)) - {*foreign, "c.txt"}
    kill(living)
    assert len(left) == 1 and next(iter(left)).startswith(".b.")
    write(tmp_path / "c.txt", "new")
    assert set(os.listdir(tmp_path)) == {*foreign, "c.txt"}


def test_a_folder_of_many_files_is_listed_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (time.sleep(0.01), listed.append(folder), scandir(folder))[-1])
    for number in range(20):
        with write_atomically(tmp_path / f"{number}.txt") as temporary:
            temporary.touch()
    assert len(listed) == 1


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_full_disk_names_the_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files is the full disk that a process can make for itself."""
    path, limit = tmp_path / f"w{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_checkpoint(WEIGHTS, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path)) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_names_the_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *unused: Any) -> int:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError) as caught, write_atomically(tmp_path / "a.txt"):
        pass
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path / "a.txt"))


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), write_atomically(tmp_path / "a.txt"):
        (tmp_path / "elsewhere").read_text()


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*unused: Any) -> bool:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files, "_lock", refuse)
    leftover = tmp_path / f".a.{'0' * 32}.fpn_plugins.txt"
    leftover.touch()
    write(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new" and leftover.exists()  # it might be another writer's
    with pytest.raises(OSError, match="no locks"), locked(tmp_path / "a.txt"):
        pass


# -------------------------------------------------------------------------------------------------------------- locks


def test_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("0")
    for process in [start(COUNT, path, wait=False) for _ in range(4)]:
        assert process.wait() == 0
    assert path.read_text() == "100" and os.listdir(tmp_path) == ["number"]


def test_a_lock_waits_for_a_living_process_and_not_for_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    process = start(HOLD, path)
    with pytest.raises(TimeoutError, match=r"\.a\.txt\.lock' is held by another process"), locked(path, timeout=0.2):
        pass
    kill(process)
    with locked(path, timeout=0.2):
        pass
    assert os.listdir(tmp_path) == []


def test_names_of_any_allowed_length_are_written(tmp_path: Path) -> None:
    for name in ("x" * 250 + ".txt", "ü" * 125 + ".txt"):
        with write_atomically(tmp_path / name) as temporary:
            temporary.write_text("text")
        assert (tmp_path / name).read_text() == "text" and len(list(tmp_path.iterdir())) == 1
        (tmp_path / name).unlink()


def compared_suffixes(source: str) -> list[str]:
    """Return expressions that choose by a suffix without `suffix_of`: comparisons, look-ups, and ``endswith``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Compare, ast.Subscript)):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else [node.slice]
            wrong = any(isinstance(part, ast.Attribute) and part.attr == "suffix" for part in parts)
        else:
            wrong = re.match(r"\w+\.endswith\(\(?'\.[a-z]\w{1,}'", ast.unparse(node)) is not None
        if wrong:
            found.append(ast.unparse(node))
    return found


def test_formats_are_chosen_by_the_suffix_in_lower_case():
    chosen = ("a.suffix in b", "b[a.suffix]", "a.endswith('.py')")
    assert [len(compared_suffixes(f"x = {text}")) for text in chosen] == [1, 1, 1]
    paths = [path for path in (ROOT / "fpn_plugins").rglob("*.py") if path.name not in OWN_SUFFIXES]
    found = {str(path.relative_to(ROOT)): compared_suffixes(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: texts for name, texts in found.items() if texts} == {}
    assert files.suffix_of(Path("folder.d/X.ONNX")) == ".onnx"
