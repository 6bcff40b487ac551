"""One environment of the matrix: made, tested, and asked for its versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from matrix_rows import Row

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "detectron2", "timm", "numpy")
# import name -> names of its distributions
DISTRIBUTIONS = {
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "mmcv": ("mmcv", "mmcv-lite", "onedl-mmcv"),
    "mmengine": ("mmengine", "onedl-mmengine"),
    "detectron2": ("detectron2", "sal-detectron2", "pb1-detectron2"),
}


class Unavailable(Exception):
    """A combination that cannot be installed here; the text is the reason."""


def find_python(version: str) -> str:
    """Return a Python interpreter of a version: on the PATH, or one of pyenv's.

    Raises:
        Unavailable: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (f"python{version}", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))):
        if shutil.which(candidate) and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return candidate
    raise Unavailable(f"no Python {version} on this machine")


def first_error(output: str) -> str:
    """Return the first line of a program's output that names an error, without temporary folders; else the last."""
    lines = [re.sub(r"/tmp/[^\s']*/", "", line).strip() for line in output.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\w+: )?error: \D|\w*Error: ", line, re.IGNORECASE)]
    told = [line for line in named if not line.endswith(("subprocess-exited-with-error", "non-zero exit status 1."))]
    return (told or lines or ["no output"])[0 if told else -1][:200]


class Environment:
    """One combination: a clone of the repository with an environment in it.

    Args:
        row: what to install and test.
        folder: folder for the clone; replaced if it exists.
        reuse: take the environment that is there, with the repository's present commit.
    """

    def __init__(self, row: Row, folder: Path, reuse: bool = False) -> None:
        self.row, self.source = row, folder / "source"
        self.python = self.source / ".venv" / "bin" / "python"
        self.log = folder / "log.txt"
        self.reused = reuse and self.python.is_file()
        if not self.reused:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)

    def call(self, *command: str | Path, limit: float = 1500, env: dict[str, str] | None = None) -> int:
        """Run a command in the clone and return its exit status; its output is appended to the log."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "FPN_PLUGINS"))}
        with self.log.open("ab") as output:
            output.write(f"\n$ {' '.join(map(str, command))}\n".encode())
            output.flush()
            folder = self.source if self.source.is_dir() else ROOT
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            return subprocess.run(
                list(map(str, command)),
                cwd=folder,
                env={**inherited, **(env or {})},
                timeout=limit,
                **streams,
            ).returncode

    def must(self, *command: str | Path) -> None:
        """Run a command; raise `Unavailable` with the error that it prints when it fails."""
        before = self.log.stat().st_size if self.log.is_file() else 0
        if self.call(*command):
            output = self.log.read_bytes()[before:].decode(errors="replace")
            raise Unavailable(first_error(output))

    def install(self) -> None:
        """Clone the repository and make the environment."""
        if self.reused:
            self.must("git", "fetch", "--quiet", "origin", "HEAD")
            self.must("git", "reset", "--quiet", "--hard", "FETCH_HEAD")
            return
        python = find_python(self.row.python)
        self.must("git", "clone", "--quiet", ROOT, self.source)
        pip = (self.python, "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check")
        if not self.row.pip:
            self.must(python, "tools/install/install.py")
            self.must(*pip, "-c", "tools/install/constraints.txt", "pytest", "pytest-timeout", "hypothesis")
            return
        self.must(python, "-m", "venv", ".venv")
        site = self.source / ".venv" / "lib" / f"python{self.row.python}" / "site-packages"
        for arguments in self.row.pip:
            self.must(*pip, *(word.format(site=site) for word in arguments))
        self.must(*pip, "--no-deps", "--no-build-isolation", "-e", ".")
        if "mmdet" in self.row.hosts:
            self.must(self.python, "-m", "fpn_plugins.commands.mmcv_operators", "install")

    def versions(self) -> dict[str, str]:
        """Return the versions of what is shown, by import name."""
        code = (
            "import importlib.metadata as m, json\n"
            "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
        )
        found = json.loads(subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout)
        versions = {"python": self.row.python}
        for name in SHOWN:
            for distribution in {name, *DISTRIBUTIONS.get(name, ())} & set(found):
                prefix = "" if distribution == name else f"{distribution} "
                versions[name] = prefix + found[distribution]
        return versions

    def test(self, seconds: float) -> dict[str, Any]:
        """Run the row's tests and return what they counted."""
        report = self.log.with_name("report.xml")
        env = {"FPN_PLUGINS_TEST_HOSTS": ",".join(self.row.hosts), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        options = ("-q", "-rf", "-p", "no:cacheprovider", f"--session-timeout={seconds:.0f}", f"--junitxml={report}")
        started = time.monotonic()
        self.call(self.python, "-m", "pytest", *options, *self.row.tests, limit=seconds + 600, env=env)
        if not report.is_file():
            raise Unavailable("the tests did not start: " + self.log.read_text(errors="replace").splitlines()[-1][:300])
        return {**read_report(report), "seconds": round(time.monotonic() - started)}


def read_report(file: Path) -> dict[str, Any]:
    """Count the outcomes in a JUnit report; names the tests that failed, and why others were skipped."""
    failed, skipped, passed = [], {}, 0
    for case in ElementTree.parse(file).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif skip is not None:
            reason = skip.get("message", "")
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": skipped}
