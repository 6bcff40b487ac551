"""The wheel: what it holds, and that its commands, configs and zoo work from where it is unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fpn_plugins
from fpn_plugins.commands.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("fpn_plugins", "configs", "tools", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
# everything that the package can do without
OPTIONAL = (
    "timm",
    "mmengine",
    "mmcv",
    "mmdet",
    "detectron2",
    "fvcore",
    "omegaconf",
    "yacs",
    "matplotlib",
    "yaml",
    "PIL",
)
OPTIONAL += (
    "pycocotools",
    "rich",
    "tqdm",
    "cv2",
    "onnx",
    "onnxruntime",
    "huggingface_hub",
    "safetensors",
    "torchvision",
)
# prints the help of all commands in one process that cannot import the optional packages
HELP = f"""
import sys
from fpn_plugins.commands.__main__ import COMMANDS, main
for name in {OPTIONAL!r}:
    sys.modules[name] = None
for name in COMMANDS:
    print(f"== {{name}}", flush=True)
    try:
        main([name, "--help"])
    except SystemExit as exit:
        print(f"code {{exit.code}}", flush=True)
"""
# prints the help of all tools in one process; each is run as if it were the first
TOOLS_HELP = """
import pathlib, runpy, sys
for name in {blocked!r}:
    sys.modules[name] = None
tools = pathlib.Path({tools!r})
path = list(sys.path)
for tool in {names!r}:
    print(f"== {{tool}}", flush=True)
    sys.argv = [str(tools / tool), "--help"]
    sys.path[:] = [str((tools / tool).parent), *path]
    try:
        runpy.run_path(str(tools / tool), run_name="__main__")
    except SystemExit as exit:
        print(f"code {{exit.code}}", flush=True)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tools)):
            del sys.modules[name]
"""
# what toolboxes print and warn of when they are imported
FOREIGN = ("OneDL", "faster_coco_eval", "pkg_resources", "meshgrid", "Warning")


def run(code: str, site: Path) -> str:
    """Run Python in a folder of its own that sees the unpacked wheel instead of this source tree."""
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    environment.pop("FPN_PLUGINS_COCO", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for name in (*SOURCES, "model-index.yml", "MANIFEST.in"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("environment") / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_it_holds_configs_tools_and_zoo(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs/mmdet", "configs/detectron2", "configs/mmdet/_base_", "configs/detectron2/common"):
        source = {f"fpn_plugins/.mim/{path.relative_to(ROOT)}" for path in (ROOT / folder).glob("*.[py]*")}
        assert source and source <= names
    expected = ("tools/train.py", "tools/test.py", "tools/synthetic/dataset.py", "model-index.yml")
    assert {f"fpn_plugins/.mim/{name}" for name in (*expected, "configs/model_zoo.yml")} <= names
    assert "fpn_plugins/py.typed" in names
    unwanted = ("tests/", "docs/", "configs/", "tools/", "fpn_plugins/.mim/tools/benchmarks", "build/")
    assert not [name for name in names if name.startswith(unwanted) or "__pycache__" in name]


def test_it_declares_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(name).decode()
    assert "fpn-plugins = fpn_plugins.commands.__main__:main" in text


def test_every_command_shows_its_help_without_optional_packages(site: Path):
    assert "fpn_plugins" in run("import fpn_plugins; print(fpn_plugins.__file__)", site)
    sections = run(HELP, site).split("== ")[1:]
    assert [section.split("\n")[0] for section in sections] == list(COMMANDS)
    for name, section in zip(COMMANDS, sections, strict=True):
        assert f"usage: fpn-plugins {name} " in section and "code 0" in section, section


@pytest.mark.parametrize("blocked", [OPTIONAL, ()], ids=["without optional packages", "with them"])
def test_every_tool_shows_its_help(blocked: tuple[str, ...]):
    """And prints nothing before."""
    tools = [path for path in (ROOT / "tools").rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
    names = [str(path.relative_to(ROOT / "tools")) for path in sorted(tools) if path.stem != "verify"]  # has no parser
    text = run(TOOLS_HELP.format(blocked=blocked, tools=str(ROOT / "tools"), names=names), ROOT)
    sections = text.split("== ")[1:]
    assert [section.split("\n")[0] for section in sections] == names and len(names) > 30
    for section in sections:
        name, first, *_ = section.splitlines()
        assert first.startswith(f"usage: {Path(name).name} ") and "code 0" in section, section
    assert not [word for word in FOREIGN if word in text]


@pytest.mark.mmdet
@pytest.mark.detectron2
def test_configs_and_zoo_are_read_from_the_package(site: Path):
    run(
        "from fpn_plugins import config_file\n"
        "from fpn_plugins.zoo import Zoo\n"
        "from mmengine.config import Config\n"
        "from detectron2.config import LazyConfig\n"
        f"assert config_file('mmdet/demo_mask_rcnn').startswith({str(site)!r})\n"
        "assert Config.fromfile(config_file('mmdet/retinanet_r50_fpn_12e')).model.neck.type == 'fpn_plugins.FPN'\n"
        "assert LazyConfig.load(config_file('detectron2/retinanet_r50_fpn_12e')).model.head_in_features\n"
        "entry = Zoo.read().find('demo_mask_rcnn')\n"
        "assert Zoo.read().config(entry.name, 'mmdet') == config_file('mmdet/demo_mask_rcnn')\n",
        site,
    )


@pytest.mark.mmdet
def test_a_config_of_the_users_own_extends_one_of_the_package(site: Path):
    user = site.parent / "mine.py"
    user.write_text('_base_ = __import__("fpn_plugins").config_file("mmdet/retinanet_r50_fpn_12e.py")\n')
    assert "RetinaNet" in run(
        f"from mmengine.config import Config; print(Config.fromfile({str(user)!r}).model.type)", site
    )


@pytest.mark.mmdet
def test_a_command_takes_a_config_of_the_package(site: Path):
    code = (
        "from fpn_plugins.commands.__main__ import main\n"
        "main(['cost', 'fpn_plugins::mmdet/retinanet_r50_fpn_12e', '--size', '64', '64'])\n"
    )
    text = run(code, site)
    assert text.startswith("**retinanet_r50_fpn_12e") and "OneDL" not in text and "faster_coco_eval" not in text


def test_the_source_tree_is_preferred_to_an_installed_copy():
    assert fpn_plugins.config_file("mmdet/demo_mask_rcnn") == str(ROOT / "configs" / "mmdet" / "demo_mask_rcnn.py")


@pytest.mark.parametrize("name", ["mmdet/retinanet_r50_fnp_12e", "../setup.cfg", "/etc/passwd", "", "mmdet"])
def test_an_unknown_config_is_an_error_with_similar_names(name: str):
    with pytest.raises(FileNotFoundError, match="has no config") as error:
        fpn_plugins.config_file(name)
    assert "fnp" not in name or "mmdet/retinanet_r50_fpn_12e" in str(error.value)
