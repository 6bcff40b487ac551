"""What may import what: read from the source of every module, and observed in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fpn_plugins

PACKAGE = Path(fpn_plugins.__file__).parent
ANY = ("*",)
# "" is what the package itself re-exports
CORE = (
    *("", "features", "files", "inference", "layers", "losses", "ops", "resampling", "upsampling"),
    *("necks", "backbones", "optim", "weights"),
)
HOSTS = ("mmengine", "mmcv", "mmdet", "detectron2", "timm", "torchvision")
OPTIONAL = (*HOSTS, "matplotlib", "PIL", "pycocotools", "safetensors")
OUTSIDE = ("tools", "configs", "tests")  # they import the package, never the other way round


@dataclass(frozen=True)
class Allowed:
    """What the modules of one folder may import besides the standard library.

    Attributes:
        internal: other parts of the package; a part allows what is below it.
        external: packages at module level.
        inside_functions: packages inside functions only.
    """

    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    inside_functions: tuple[str, ...] = ()


NUMERIC = Allowed((*CORE, "data", "analysis", "visualization"), ("torch", "numpy"), ANY)
PARTS = ("features", "layers", "ops", "resampling", "upsampling")
# by module, the longest prefix wins; what an entry covers may import each other
RULES = {
    "": Allowed(("features", "necks", "backbones")),
    "files": Allowed(),
    "features": Allowed(external=("torch",)),
    "layers": Allowed(("ops",), ("torch",)),
    "resampling": Allowed(("layers",), ("torch",)),
    "ops": Allowed(external=("torch",)),
    "losses": Allowed(external=("torch",)),
    "upsampling": Allowed(("layers", "ops"), ("torch",)),
    "necks": Allowed((*PARTS, "weights"), ("torch",)),
    "backbones": Allowed((*PARTS, "weights"), ("torch",)),
    "backbones.timm_networks": Allowed(external=("torch",), inside_functions=("timm",)),
    "inference": Allowed(external=("torch", "numpy"), inside_functions=("PIL", "pycocotools")),
    "optim": Allowed(),
    "weights": Allowed(("files",), ("torch",), inside_functions=("safetensors",)),
    "weights.hub": Allowed(inside_functions=("huggingface_hub",)),
    "weights.maps": Allowed(("weights.key_map", "weights.transforms")),
    "weights.zoo": Allowed(("files", "weights"), inside_functions=("torch", "yaml")),
    "data": NUMERIC,
    "analysis": NUMERIC,
    "visualization": NUMERIC,
    "testing": NUMERIC,
    "registry": Allowed(external=("mmengine",)),
    "adapters": Allowed(),
    "adapters.mmdet": Allowed((*CORE, "data", "registry"), ("torch", "numpy", "mmengine", "mmcv", "mmdet")),
    "adapters.detectron2": Allowed((*CORE, "data"), ("torch", "numpy", "detectron2", "fvcore", "omegaconf")),
    "adapters.torchvision": Allowed((*CORE, "data"), ("torch", "torchvision")),
}


def modules_of(package: Path) -> dict[str, Path]:
    """Every module by its name below the package (``""`` is the package itself)."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(module: str, package: Path, modules: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """``(absolute dotted name, whether inside a function)`` of each import; parts of the package begin with a dot."""
    folder = module.split(".") if module else []
    if modules[module].name != "__init__.py":
        folder = folder[:-1]

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                internal = alias.name.split(".")[0] == package.name
                yield (alias.name.removeprefix(package.name) or "." if internal else alias.name), inside
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = ".".join([*folder[: len(folder) - node.level + 1], *([node.module] if node.module else [])])
            elif (node.module or "").split(".")[0] == package.name:
                base = (node.module or "").removeprefix(package.name).lstrip(".")
            else:
                yield node.module or "", inside
                return
            for alias in node.names:  # `from ... import necks` names a module, `from ...features import X` does not
                full = f"{base}.{alias.name}".lstrip(".")
                yield "." + (full if full in modules else base), inside
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(modules[module].read_text()), False)


def below(name: str, parts: tuple[str, ...]) -> bool:
    """Whether ``name`` is one of ``parts`` or inside one (``""`` has nothing inside)."""
    return any(name == part or (part != "" and name.startswith(f"{part}.")) for part in parts)


def violations(package: Path) -> list[str]:
    """Every import that the rules do not allow, as a sentence."""
    found = []
    modules = modules_of(package)
    for module in modules:
        owner = max((rule for rule in RULES if below(module, (rule,))), key=len, default=None)
        if owner is None:
            found.append(f"{module}: no rule covers this module")
            continue
        rule = RULES[owner]
        for name, inside in imports_of(module, package, modules):
            top = name.split(".")[0]
            if name.startswith("."):
                fine = below(name[1:], (*rule.internal, *filter(None, [owner])))
            elif top in OUTSIDE:
                fine = False
            else:
                external = (*rule.external, *(rule.inside_functions if inside else ()), "__future__")
                fine = top in sys.stdlib_module_names or top in external or "*" in external
            if not fine:
                found.append(f"{module or package.name} imports {name}" + (" inside a function" if inside else ""))
    return found


def test_every_import_is_allowed():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("features.py", "from .layers import GROUPS", "features imports .layers"),
        ("layers.py", "import numpy", "layers imports numpy"),
        ("layers.py", "def f():\n    import numpy", "layers imports numpy inside a function"),
        ("necks/fpn.py", "from ..backbones import TimmBackbone", "necks.fpn imports .backbones"),
        ("necks/fpn.py", "from .. import backbones", "necks.fpn imports .backbones"),
        ("backbones/vit.py", "def f():\n    import timm", "backbones.vit imports timm inside a function"),
        ("backbones/timm_networks.py", "import timm", "backbones.timm_networks imports timm"),
        ("backbones/timm_networks.py", "try:\n    import timm\nexcept ImportError:\n    timm = None", "imports timm"),
        ("weights/checkpoint.py", "from safetensors.torch import load_file", "imports safetensors.torch"),
        ("weights/maps/fpn.py", "import torch", "weights.maps.fpn imports torch"),
        ("weights/maps/fpn.py", "from ..checkpoint import read_checkpoint", "imports .weights.checkpoint"),
        ("data/subset.py", "from PIL import Image", "data.subset imports PIL"),
        ("data/subset.py", "from ..adapters import mmdet", "data.subset imports .adapters.mmdet"),
        ("data/subset.py", "def f():\n    import tools.train", "data.subset imports tools.train inside a function"),
        ("adapters/mmdet/__init__.py", "from ..detectron2 import config", "imports .adapters.detectron2.config"),
        ("adapters/mmdet/__init__.py", "import detectron2", "adapters.mmdet imports detectron2"),
        ("adapters/detectron2/__init__.py", "from ...registry import MODELS", "imports .registry"),
        ("adapters/detectron2/__init__.py", "from fpn_plugins.registry import MODELS", "imports .registry"),
        ("adapters/detectron2/__init__.py", "from mmengine import Config", "imports mmengine"),
        ("registry.py", "import mmdet", "registry imports mmdet"),
    ],
)
def test_the_checker_reports_a_planted_violation(tmp_path: Path, path: str, source: str, expected: str):
    """The rules would be worth nothing if the checker let everything pass."""
    package = empty_package(tmp_path, path)
    assert violations(package) == []
    (package / path).write_text(source)
    (violation,) = violations(package)
    assert expected in violation


def test_a_module_without_a_rule_is_a_violation(tmp_path: Path):
    """A new folder has to say what it may import."""
    assert violations(empty_package(tmp_path, "novelty.py")) == ["novelty: no rule covers this module"]


def empty_package(root: Path, path: str) -> Path:
    """A package of empty modules: ``path`` and those that the planted sources name."""
    package = root / "fpn_plugins"
    named = (
        "layers.py",
        "backbones/x.py",
        "weights/checkpoint.py",
        "adapters/mmdet/x.py",
        "adapters/detectron2/config.py",
    )
    for file in (package / name for name in (*named, path)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        for folder in file.relative_to(package).parents:
            (package / folder / "__init__.py").touch()
    return package


# ---------------------------------------------------------------------------------------------- fresh interpreters

OBSERVE = """
import importlib, json, sys

package, optional, block = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in block:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
module = importlib.import_module(package)
seen = {"loaded": sorted(name for name in optional if name in sys.modules), "errors": {}}

def attempt(label, action):
    try:
        action()
    except Exception as error:
        seen["errors"][label] = [type(error).__name__, str(error)]

if block:
    attempt("timm", lambda: module.TimmBackbone("resnet18"))
    for host in ("mmdet", "detectron2"):
        attempt(host, lambda: importlib.import_module(f"{package}.adapters.{host}"))
print(json.dumps(seen))
"""


def observe(package: str, root: Path, block: tuple[str, ...] = ()) -> dict:
    """Import ``package`` from ``root`` in a fresh interpreter and report what else that loaded."""
    arguments = json.dumps([package, OPTIONAL, block])
    result = subprocess.run(
        [sys.executable, "-c", OBSERVE, arguments],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def with_torch_alone() -> dict:
    """What happens where no optional package can be imported."""
    return observe("fpn_plugins", PACKAGE.parent, block=OPTIONAL)


def test_importing_the_package_imports_no_optional_library():
    assert observe("fpn_plugins", PACKAGE.parent)["loaded"] == []


def test_the_observer_sees_a_planted_import(tmp_path: Path):
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "__init__.py").write_text("import safetensors\n")
    assert observe("planted", tmp_path)["loaded"] == ["safetensors"]
    with pytest.raises(AssertionError, match="safetensors is blocked"):
        observe("planted", tmp_path, block=OPTIONAL)


def test_the_package_imports_with_torch_alone(with_torch_alone: dict):
    assert with_torch_alone["loaded"] == []


@pytest.mark.parametrize("host", ["timm", "mmdet", "detectron2"])
def test_a_missing_host_is_an_import_error_that_names_the_extra(with_torch_alone: dict, host: str):
    kind, message = with_torch_alone["errors"][host]
    assert kind == "ImportError"
    assert f"pip install 'fpn_plugins[{host}]'" in message


def test_a_missing_mmcv_is_named_by_the_mmdet_adapter():
    """mmengine and mmdet without mmcv is the common half-installation."""
    kind, message = observe("fpn_plugins", PACKAGE.parent, block=("mmcv",))["errors"]["mmdet"]
    assert kind == "ImportError"
    assert "mmcv is blocked" in message and "fpn_plugins[mmdet]" in message
