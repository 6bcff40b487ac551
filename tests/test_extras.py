"""A missing optional library names what to install, at every import of one in the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import torch

import fpn_plugins
from fpn_plugins.extras import EXTRAS, PACKAGES, needed_for

PACKAGE = Path(fpn_plugins.__file__).parent
DISTRIBUTIONS = {"PIL": "pillow", "huggingface_hub": "huggingface-hub", "yaml": "pyyaml"}


def unguarded(source: str) -> Iterator[str]:
    """Optional libraries that a module imports outside `needed_for`."""

    def visit(node: ast.AST, guarded: bool) -> Iterator[str]:
        if isinstance(node, ast.With):
            guarded = guarded or "needed_for" in ast.unparse(node.items[0])
        if isinstance(node, ast.Try):  # it goes on without the library
            guarded = guarded or any("ImportError" in ast.unparse(handler.type or node) for handler in node.handlers)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not guarded:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if not isinstance(node, ast.ImportFrom) or not node.level:
                yield from (name for name in names if name.split(".")[0] in {**EXTRAS, **PACKAGES})
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in [] if typing_only else ast.iter_child_nodes(node):
            yield from visit(child, guarded)

    return visit(ast.parse(source), False)


def test_every_optional_import_is_guarded():
    """Adapters are exempt: the toolboxes themselves need these libraries; so are parts of timm after `import_timm`."""
    files = [path for path in PACKAGE.rglob("*.py") if "adapters" not in path.parts and ".mim" not in path.parts]
    found = {f"{path.stem}: {name}" for path in files for name in unguarded(path.read_text(encoding="utf-8"))}
    assert {name for name in found if ": timm." not in name} == set()


@pytest.mark.parametrize("source", ["import numpy as np", "def f():\n    from yaml import safe_load"])
def test_a_planted_import_is_found(source: str):
    assert len(list(unguarded(source))) == 1
    assert list(unguarded(f"if TYPE_CHECKING:\n    {source.splitlines()[-1].strip()}")) == []


def test_the_extras_exist_and_list_the_libraries():
    parser = ConfigParser()
    parser.read(PACKAGE.parent / "setup.cfg")
    listed = {name: value.split() for name, value in parser["options.extras_require"].items()}
    for library, extra in EXTRAS.items():
        assert any(part.startswith(DISTRIBUTIONS.get(library, library)) for part in listed[extra]), (library, extra)


def boxes() -> Any:
    from fpn_plugins.inference import Detections

    return Detections(torch.ones(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64), torch.ones(1, 2, 2) > 0)


def call(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    """A function that imports and calls a function of the package."""
    module, _, function = name.rpartition(".")
    return lambda: getattr(__import__(f"fpn_plugins.{module}", fromlist=[function]), function)(*arguments, **options)


TINY: dict[str, Any] = {"embed_dim": 8, "depth": 1, "num_heads": 1, "global_block_indices": ()}
USES: dict[str, list[Callable[[], Any]]] = {
    "timm": [call("backbones.TimmBackbone", "resnet18")],
    "safetensors": [
        call("weights.write_checkpoint", {"w": torch.ones(1)}, "x.safetensors"),
        call("weights.read_checkpoint", "there.safetensors"),
        call("zoo.publish.serialize", {"w": torch.ones(1)}, "mmdet", (), ".safetensors"),
        call("zoo.publish.as_pth", Path("there.safetensors"), "mmdet", Path()),
        lambda: fpn_plugins.ViT(**TINY, frozen_stages=1, feature_cache={"folder": "x.maps", "max_bytes": 1}),
    ],
    "yaml": [lambda: fpn_plugins_zoo().read("there.yml")],
    "huggingface_hub": [call("zoo.hub.hub_url", "me/net", "x")],
    "PIL": [call("inference.read_image", "x.png")],
    "peft": [lambda: fpn_plugins.ViT(**TINY, lora={})],
    "pycocotools": [lambda: boxes().to_coco(1, [1]), call("analysis.evaluate_predictions", "a", "b")],
    "tqdm": [call("analysis.evaluation.evaluate_detectors", {}, None)],
    "matplotlib": [call("visualization.figures.new_figure", 1, 1)],
    "supervision": [lambda: boxes().to_supervision(["a"])],
    "sahi": [lambda: sliced_anew()],
    "onnxscript": [call("export.check_target", "x.onnx"), call("export.check_target", "x.XML")],
    "openvino": [call("export.check_target", "x.xml")],
    "nncf": [call("export.check_target", f"x.{suffix}", int8=True) for suffix in ("onnx", "xml")],
    "onnxruntime": [call("export.check_target", "x.onnx", int8=True)],
    "cv2": [lambda: next(call("inference.read_pictures", "x.mp4")())],
}


def sliced_anew() -> Any:
    """Import the module again, in which SAHI's class is a base."""
    sys.modules.pop("fpn_plugins.adapters.sahi", None)
    return call("adapters.sahi.SlicedPredictor")()


def fpn_plugins_zoo() -> Any:
    from fpn_plugins.zoo import Zoo

    return Zoo


@pytest.mark.parametrize("library", USES)
def test_a_missing_library_names_what_to_install(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there.safetensors", "there.yml"):
        (tmp_path / name).touch()
    for action in USES[library]:
        for module in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
            monkeypatch.setitem(sys.modules, module, None)
        expected = PACKAGES.get(library) or rf"'fpn_plugins\[{EXTRAS[library]}\]'"
        with pytest.raises(ImportError, match=f"need {library}: pip install {expected}"):
            action()
    assert not list(tmp_path.glob("x.*"))


def test_numpy_is_named_where_a_module_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    for name in ("statistics", "level_weights"):
        monkeypatch.delitem(sys.modules, f"fpn_plugins.data.{name}", raising=False)
        with pytest.raises(ImportError, match=r"need numpy: pip install 'fpn_plugins\[data\]'"):
            __import__(f"fpn_plugins.data.{name}")


def test_an_error_inside_a_library_is_not_a_missing_library() -> None:
    with pytest.raises(ImportError, match="^broken$"), needed_for("things"):
        raise ImportError("broken", name="libx")


REPORTS = """
import openvino_telemetry.utils.sender as sender
sender.TelemetrySender.send = lambda *given: print("sent")
from fpn_plugins.extras import without_telemetry
with without_telemetry():
    import openvino
print(openvino.tools.ovc.telemetry)
"""


def test_openvino_reports_nothing():
    """Its import alone would report, from a forked process."""
    files = [path for folder in (PACKAGE, PACKAGE.parent / "tools") for path in folder.rglob("*.py")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    places = [i for i, line in enumerate(lines) if line.strip() in ("import openvino", "import nncf")]
    assert len(places) >= 4 and all("without_telemetry()" in " ".join(lines[i - 2 : i]) for i in places)
    done = subprocess.run([sys.executable, "-c", REPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Telemetry" in done.stdout and "sent" not in done.stdout
