"""What the installer checks beforehand, what it verifies at the end, and that its files agree with each other."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "install"


# the checks


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 6, 15), (2, 7, 18)])
def test_old_python_is_refused(preflight, version):
    message = preflight.check_python(version)
    assert ".".join(map(str, version)) in message
    assert ">= 3.10" in message
    assert "PYTHON=" in message


def test_supported_python_passes_and_newer_is_warned_about(preflight):
    assert preflight.check_python((3, 10, 0)) is None
    assert preflight.python_warning((3, 13, 1)) is None
    assert "3.14" in preflight.python_warning((3, 14, 0))


def test_old_python_stops_before_anything(install, call, runner, monkeypatch):
    monkeypatch.setattr(install.preflight, "check_python", lambda: "too old")
    with pytest.raises(install.InstallError, match="too old"):
        call()
    assert runner.commands == []


def test_missing_venv_module_names_the_package(preflight):
    message = preflight.check_venv_module(lambda name: None if name == "ensurepip" else object())
    assert "ensurepip" in message
    assert f"python3.{sys.version_info[1]}-venv" in message
    assert preflight.check_venv_module(lambda name: object()) is None


def test_missing_compiler_names_package_and_way_around(preflight):
    message = preflight.check_compiler({}, which=lambda name: None)
    assert "g++" in message
    assert "MMCV=torchvision" in message
    message = preflight.check_compiler({"CXX": "my-c++ -m64"}, which=lambda name: None)
    assert "CXX=my-c++ -m64 is not a program" in message


def test_missing_python_headers_are_found_before_compiling(preflight, tmp_path):
    message = preflight.check_compiler({}, which=lambda name: name, include=str(tmp_path))
    assert "Python.h" in message
    assert f"python3.{sys.version_info[1]}-dev" in message
    (tmp_path / "Python.h").touch()
    assert preflight.check_compiler({}, which=lambda name: name, include=str(tmp_path)) is None


@pytest.mark.parametrize("there", ["c++", "g++", "clang++"])
def test_each_compiler_will_do(preflight, there):
    assert preflight.find_compiler({}, which=lambda name: name if name == there else None) == there


def full_disk(monkeypatch, preflight, free):
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)


def test_full_disk_says_what_is_free_and_needed(preflight, monkeypatch, tmp_path):
    full_disk(monkeypatch, preflight, 3_210_000_000)
    message = preflight.check_disk(tmp_path, 12, {})
    assert "3.2 GB are free" in message
    assert "12.0 GB are needed" in message
    assert "FPN_PLUGINS_MIN_DISK_GB" in message


def test_disk_limit_can_be_lowered(preflight, monkeypatch, tmp_path):
    full_disk(monkeypatch, preflight, 3_210_000_000)
    assert preflight.check_disk(tmp_path, 12, {"FPN_PLUGINS_MIN_DISK_GB": "3"}) is None
    assert "'much' is no number" in preflight.check_disk(tmp_path, 12, {"FPN_PLUGINS_MIN_DISK_GB": "much"})


def test_small_temporary_disk_is_found(preflight, monkeypatch, tmp_path):
    full_disk(monkeypatch, preflight, 1_000_000_000)
    assert preflight.check_temporary_disk(Path(preflight.tempfile.gettempdir()), 4, {}) is None
    elsewhere = SimpleNamespace(stat=lambda: SimpleNamespace(st_dev=-1))  # a folder of another file system
    assert "TMPDIR=" in preflight.check_temporary_disk(elsewhere, 4, {})


def test_a_fresh_installation_asks_for_12_gb_and_a_resumed_one_for_less(modules, root):
    steps = modules["steps"].build_steps(root, "both", (3, 11), "compiled")
    assert sum(step.disk_gb for step in steps) == pytest.approx(12, abs=0.5)
    assert sum(step.disk_gb for step in steps if step.name != "torch") < 4


def test_a_step_done_with_other_pins_asks_for_no_disk_again(install, root, runner, monkeypatch):
    asked = []
    for name in ("check_compiler", "check_temporary_disk", "check_venv_module"):
        monkeypatch.setattr(install.preflight, name, lambda *arguments: None)
    monkeypatch.setattr(install.preflight, "check_disk", lambda root, needed: asked.append(needed))
    install.install(install.parse_args(["--mmcv", "compiled"]), root, runner)
    with (root / "tools/install/constraints.txt").open("a") as file:
        file.write("# changed\n")
    install.install(install.parse_args([]), root, runner)
    assert asked == [pytest.approx(12, abs=0.5), 0]


def test_environment_of_another_python_is_not_touched(preflight, tmp_path):
    assert preflight.check_existing_venv(tmp_path / ".venv", (3, 11)) is None
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.10.13\n")
    assert preflight.check_existing_venv(tmp_path, (3, 10)) is None
    assert "make distclean" in preflight.check_existing_venv(tmp_path, (3, 11))


def test_all_problems_are_told_at_once_and_nothing_runs(install, preflight, root, runner, monkeypatch):
    full_disk(monkeypatch, preflight, 1_000_000_000)
    monkeypatch.setattr(install.preflight, "check_compiler", lambda: "no compiler")
    with pytest.raises(install.InstallError) as caught:
        install.install(install.parse_args(["--mmcv", "compiled"]), root, runner)
    assert "no compiler" in str(caught.value)
    assert "GB are free" in str(caught.value)
    assert runner.commands == []
    assert not (root / ".venv").exists()


@pytest.mark.parametrize("arguments", [[], ["--toolbox", "detectron2"], ["--mmcv", "torchvision"]])
def test_no_compiler_is_needed_unless_mmcv_is_compiled(install, root, runner, monkeypatch, arguments):
    monkeypatch.setattr(install.preflight, "check_compiler", lambda: "no compiler")
    monkeypatch.setattr(install.preflight, "check_disk", lambda *arguments: None)
    monkeypatch.setattr(install.preflight, "check_temporary_disk", lambda *arguments: None)
    monkeypatch.setattr(install.preflight, "check_venv_module", lambda: None)
    install.install(install.parse_args(arguments), root, runner)
    assert runner.commands


# the import check at the end


def test_verify_reports_each_failure_with_advice(modules):
    verify = modules["verify"]

    def load(name):
        if name == "mmcv.ops":
            raise ModuleNotFoundError("No module named 'mmcv._ext'")
        if name == "timm":
            raise ImportError("libGL.so.1: cannot open shared object file")

    problems = verify.verify("both", load)
    assert len(problems) == 2
    assert "libgl1" in problems[0]
    assert "has no operators" in problems[1]


def test_verify_imports_only_the_chosen_toolbox(modules):
    names = [name for name, _ in modules["verify"].parts_of("detectron2")]
    assert not [name for name in names if name.startswith("mm")]
    assert "detectron2.model_zoo" in names


# what the files say


def test_every_package_the_installer_names_is_pinned(modules):
    steps = modules["steps"]
    pins = (FOLDER / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins if "==" in line}
    named = {"torch", "torchvision", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "sal-detectron2"}
    for names in steps.read_extras(ROOT).values():
        named |= {name.split(">")[0].split("<")[0] for name in names}
    assert named <= pinned


def test_no_toolbox_distribution_is_a_dependency(modules):
    extras = modules["steps"].read_extras(ROOT)
    hosts = ("mmcv", "mmdet", "mmengine", "detectron2", "onedl", "openmim")
    assert not [name for names in extras.values() for name in names if any(host in name for host in hosts)]
