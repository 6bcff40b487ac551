"""Create .venv with everything that the project needs. Needs nothing but Python; `make install` calls it.

The work is done in steps. Each finished step leaves a stamp, so a second call does nothing, and a call after a failure
goes on at the step that failed.

Example:
    python3 tools/install/install.py
    python3 tools/install/install.py --toolbox detectron2 --dry-run
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import preflight
from steps import HOST_PYTHON, MMCV, STAMP, TOOLBOXES, VENV, VENV_PYTHON, Step, build_steps, has_dev_tools, was_compiled

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT = 30.0
TAIL_LINES = 25

if TYPE_CHECKING:  # so that an old Python gets as far as the message that it is too old
    from collections.abc import Callable, Mapping, Sequence

    Runner = Callable[[Sequence[str], Mapping[str, str], Path, Path], int]


class InstallError(Exception):
    """A problem that the user can do something about; its text says what."""


def run_logged(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> int:
    """Run a command with its output in a file, and say every half minute that it still runs.

    Args:
        command: program and arguments.
        env: its whole environment.
        cwd: folder to run it in.
        log: file that the output is appended to.

    Returns:
        The command's exit status.
    """
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    return process.wait(timeout=HEARTBEAT)
                except subprocess.TimeoutExpired:
                    print(f"        still working after {time.monotonic() - started:.0f} s", flush=True)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


class Installer:
    """Runs the steps that have no stamp.

    Args:
        root: folder of the repository.
        steps: all steps, in order.
        runner: runs one command; see `run_logged`.
    """

    def __init__(self, root: Path, steps: Sequence[Step], runner: Runner = run_logged) -> None:
        self.root = root
        self.steps = list(steps)
        self.runner = runner
        self.stamps = root / VENV / ".stamps"

    def pending(self) -> list[Step]:
        """Steps still to do; the last one, which verifies the others, is done whenever anything is."""
        left = [step for step in self.steps[:-1] if not (self.stamps / step.stamp()).is_file()]
        last = self.steps[-1]
        return [*left, last] if left or not (self.stamps / last.stamp()).is_file() else []

    def is_new(self, step: Step) -> bool:
        """Whether a step was never done here; one done with other inputs costs little time and space."""
        return not any(self.stamps.glob(f"{step.name}{STAMP}"))

    def run(self) -> None:
        """Do what is left to do.

        Raises:
            InstallError: a step failed; the text has the end of its output and what to do.
        """
        pending = self.pending()
        self.stamps.mkdir(parents=True, exist_ok=True)
        for number, step in enumerate(pending, 1):
            print(f"[{number}/{len(pending)}] {step.name}", flush=True)
            started = time.monotonic()
            self._do(step)
            print(f"        done in {time.monotonic() - started:.0f} s", flush=True)

    def _do(self, step: Step) -> None:
        """One step: its commands, its check, its stamp."""
        log = self.stamps / f"{step.name}.log"
        log.unlink(missing_ok=True)
        for name in (step.name, step.undoes):
            for old in self.stamps.glob(f"{name}{STAMP}"):
                old.unlink()
        for command in step.commands:
            self._call(step, command, log)
        if step.check and self._status(step, step.check, log):
            self._call(step, step.repair, log)
            self._call(step, step.check, log)
        if step.shows_output:
            print(log.read_text(encoding="utf-8", errors="replace").rstrip(), flush=True)
        (self.stamps / step.stamp()).touch()

    def _status(self, step: Step, command: Sequence[str], log: Path) -> int:
        """Exit status of one command of a step."""
        return self.runner(words(command), environment(step), self.root, log)

    def _call(self, step: Step, command: Sequence[str], log: Path) -> None:
        """Run one command of a step, which must succeed."""
        status = self._status(step, command, log)
        if status:
            raise InstallError(
                f"step {step.name} failed with status {status}; its last lines:\n\n{tail(log)}\n\n"
                f"The command was: {shlex.join(words(command))}\n"
                f"All its output: {log.relative_to(self.root)}\n{step.hint}\n"
                "The next `make install` goes on at this step."
            )


def words(command: Sequence[str]) -> list[str]:
    """A command as it is run."""
    return [sys.executable if word == HOST_PYTHON else word for word in command]


def tail(log: Path) -> str:
    """The last lines of a file, indented; an empty text without the file."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def environment(step: Step) -> dict[str, str]:
    """Environment for a step's commands: the user's, without what would lead pip or Python out of .venv."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    env.update(PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_USER="0", PYTHONNOUSERSITE="1", **step.env)
    if step.compiles:
        env.setdefault("MAX_JOBS", str(preflight.compile_jobs()))
        env.setdefault("CXX", preflight.find_compiler() or "c++")
        if preflight.gpu_without_nvcc():
            env["CUDA_VISIBLE_DEVICES"] = ""
    return env


def check(installer: Installer, version: tuple[int, int]) -> None:
    """Check what the pending steps need.

    Raises:
        InstallError: something is missing; all that is missing is in the text.
    """
    pending = installer.pending()
    names = [step.name for step in pending]
    problems = [preflight.check_existing_venv(installer.root / VENV, version)]
    if "venv" in names:
        problems.append(preflight.check_venv_module())
    if any(step.compiles for step in pending):
        problems.append(preflight.check_compiler())
    new = [step for step in pending if installer.is_new(step)]
    problems.append(preflight.check_disk(installer.root, sum(step.disk_gb for step in new)))
    if "torch" in [step.name for step in new]:
        problems.append(preflight.check_temporary_disk(installer.root, 4.0))
    found = [problem for problem in problems if problem]
    if found:
        raise InstallError("\n\n".join(found))


def announce(installer: Installer, toolbox: str) -> None:
    """Say what will be done, what of it takes long, and why."""
    pending = installer.pending()
    running = ".".join(map(str, sys.version_info[:3]))
    print(f"Installing into {VENV} with Python {running}, TOOLBOX={toolbox}. Left to do: {len(pending)} steps.")
    for step in pending:
        if step.note and installer.is_new(step):
            print(f"  {step.name}: {step.note}")
    print(f"Output of each step: {VENV}/.stamps/STEP.log. Stopping is safe: the next call goes on.", flush=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; see --help."""
    parser = argparse.ArgumentParser(description="Create .venv with everything that the project needs.")
    parser.add_argument("--toolbox", choices=TOOLBOXES, default="both", help="which toolboxes to install")
    text = "compute mmcv's operators with torchvision, or compile them; auto keeps compiled ones (default)"
    parser.add_argument("--mmcv", choices=(*MMCV, "auto"), default="auto", help=text)
    parser.add_argument("--dev", action="store_true", help="also what tests, checks of style and the docs need")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that are left to run, and stop")
    parser.add_argument("--skip-checks", action="store_true", help="do not check compiler, disk and venv beforehand")
    return parser.parse_args(argv)


def install(args: argparse.Namespace, root: Path = ROOT, runner: Runner = run_logged) -> None:
    """Install into `root`; does nothing when everything is stamped.

    Raises:
        InstallError: a check or a step failed.
    """
    too_old = preflight.check_python()
    if too_old:
        raise InstallError(too_old)
    version = (sys.version_info[0], sys.version_info[1])
    mmcv = MMCV[was_compiled(root)] if args.mmcv == "auto" else args.mmcv
    dev = args.dev or has_dev_tools(root)
    installer = Installer(root, build_steps(root, args.toolbox, version, mmcv, dev), runner)
    pending = installer.pending()
    if args.dry_run:
        print("\n".join(shlex.join(words(command)) for step in pending for command in step.commands))
    elif pending:
        if preflight.python_warning():
            print(f"warning: {preflight.python_warning()}", flush=True)
        if not args.skip_checks:
            check(installer, version)
        announce(installer, args.toolbox)
        installer.run()
        print(f"Installed. Use {VENV_PYTHON}, or: source {VENV}/bin/activate")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything is installed, 1 with a message otherwise, 130 when interrupted."""
    try:
        install(parse_args(argv))
    except InstallError as error:
        print(f"make install stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The next `make install` goes on at this step.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the running step, too
    sys.exit(main())
