"""The neck of docs/extending.md, planted from the page's own code, passes all that a neck of this package passes."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fpn_plugins import NECKS, FeatureSpec, Pyramid, build_neck
from fpn_plugins.testing import TINY_SPECS, make_pyramid

ROOT = Path(__file__).resolve().parents[2]
NAME = "SharedFPN"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write the four files of the page into a package, import its neck, and unregister it after the test."""
    blocks = re.findall(r"```python\n# (my_necks/\w+\.py)\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
    assert len(blocks) == 4
    for name, code in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    (tmp_path / "my_necks/__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("my_necks.shared_fpn")
    yield "my_necks"
    del NECKS[NAME]
    for name in [name for name in sys.modules if name.split(".")[0] == "my_necks"]:
        del sys.modules[name]


def test_its_own_tests_pass(package: str) -> None:
    module = importlib.import_module(f"{package}.test_shared_fpn")
    tests = [value for key, value in vars(module).items() if key.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


@pytest.mark.parametrize(
    "neck", [{"type": NAME, "out_channels": 8}, [{"type": NAME, "out_channels": 8}, {"type": "BFP"}]]
)
def test_it_builds_by_name_alone_and_in_a_chain(package: str, neck: object) -> None:
    built = build_neck(neck, TINY_SPECS)
    assert built.out_specs(TINY_SPECS) == tuple(FeatureSpec(8, spec.stride) for spec in TINY_SPECS)
    assert [m.shape for m in built(make_pyramid())] == [(1, 8, 64 // s.stride, 96 // s.stride) for s in TINY_SPECS]


@pytest.mark.timm
def test_it_is_part_of_a_pyramid(package: str) -> None:
    pyramid = Pyramid({"type": "TimmBackbone", "name": "resnet10t"}, {"type": NAME, "out_channels": 8})
    assert [spec.channels for spec in pyramid.feature_specs] == [8] * 4
    assert len(pyramid(torch.randn(1, 3, 64, 64))) == 4


@pytest.mark.timm
@pytest.mark.mmdet
@pytest.mark.detectron2
def test_each_toolbox_builds_it_by_name_with_the_arguments_of_the_core(package: str) -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone
    from fpn_plugins.registry import MODELS

    backbone, neck = {"type": "TimmBackbone", "name": "resnet10t"}, {"type": NAME, "out_channels": 8, "norm": "BN"}
    images = torch.randn(1, 3, 64, 64)
    in_mmdet = MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": backbone, "neck": neck})
    in_detectron2 = PyramidBackbone(backbone, neck)
    assert [m.shape[1] for m in in_mmdet(images)] == [8] * 4
    assert list(in_detectron2(images)) == ["p2", "p3", "p4", "p5"]


def test_the_page_of_necks_describes_it(package: str, script: Callable[[str], ModuleType]) -> None:
    page = script("docs/necks")
    text = page.render()
    assert f"## {NAME}" in text and f"| [{NAME}](#sharedfpn) | C2-C5 | 1.57 |" in text
    assert set(page.topology_of(page.card_of(NAME)).boxes) == {
        f"{kind}{level}" for kind in "CMP" for level in range(2, 6)
    }


@pytest.mark.mmdet
def test_mmdet_builds_it_from_a_config(package: str) -> None:
    from fpn_plugins.registry import MODELS

    importlib.import_module(f"{package}.mmdet_shared_fpn")
    try:
        config = {"type": f"fpn_plugins.{NAME}", "in_channels": [8, 16], "out_channels": 32}
        neck = MODELS.build({**config, "norm_cfg": {"type": "GN", "num_groups": 4}})
        assert neck.output_conv.norm.num_groups == 4
    finally:
        del MODELS.module_dict[NAME]


def test_the_contracts_hold(package: str, tmp_path: Path) -> None:
    """In a process of its own, where the neck is registered before the contract tests are collected."""
    tests = ["tests/contracts"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        f"{package}.shared_fpn",
        "-p",
        "no:xdist",
        "-k",
        NAME,
        *tests,
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    found = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert found is not None and int(found[1]) >= 15
