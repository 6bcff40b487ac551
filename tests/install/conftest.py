"""Fixtures for the tests of the installer: its modules, a folder to install into, and a runner that only records."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "install"
NEEDED = ("setup.cfg", "pyproject.toml", "tools/install/constraints.txt", "tools/install/weights.txt")


@pytest.fixture(scope="module")
def modules():
    """The installer's modules, loaded from their files under names that collide with nothing."""
    loaded = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("steps", "preflight", "verify", "install"):
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            loaded[name] = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, loaded[name])
            spec.loader.exec_module(loaded[name])
    return loaded


@pytest.fixture
def install(modules):
    return modules["install"]


@pytest.fixture
def preflight(modules):
    return modules["preflight"]


@pytest.fixture
def root(tmp_path):
    """A folder with the files that the installer reads."""
    for name in (*NEEDED, "tools/install/verify.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


class Recorder:
    """Stands for the runner: writes the commands down, and fails those that `fails` says."""

    def __init__(self):
        self.commands = []
        self.envs = []
        self.fails = lambda line: False

    def __call__(self, command, env, cwd, log):
        line = " ".join(command)
        self.commands.append(line)
        self.envs.append(env)
        failed = self.fails(line)
        log.write_text("\n".join(f"line {n}" for n in range(40)) + "\nERROR: no such package\n" if failed else "fine\n")
        return int(failed)


@pytest.fixture
def runner():
    return Recorder()


@pytest.fixture
def call(install, root, runner):
    """Call the installer without checks, which depend on the machine; returns the commands of this call."""

    def run(*arguments):
        del runner.commands[:]
        install.install(install.parse_args(["--skip-checks", *arguments]), root, runner)
        return list(runner.commands)

    return run
