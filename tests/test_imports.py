"""Which module may import which: read from the source of every module, and observed in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from import_graph import import_cycle, imports_of, modules_of

import fpn_plugins

PACKAGE = Path(fpn_plugins.__file__).parent
ANY = ("*",)
# libraries that the package works without
HOSTS = ("mmengine", "mmcv", "mmdet", "detectron2", "timm", "torchvision")
OPTIONAL = (*HOSTS, "matplotlib", "PIL", "pycocotools", "safetensors", "huggingface_hub", "peft")
OUTSIDE = ("tools", "configs", "tests")  # import the package, and are imported by nothing


@dataclass(frozen=True)
class Allowed:
    """Imports allowed in a part of the package, besides the standard library and the part itself.

    Attributes:
        internal: other parts of the package, each with everything inside it.
        external: libraries, at module level and in functions.
        inside_functions: further libraries, in functions only.
        itself: whether the modules of the part may import each other.
    """

    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ("torch",)
    inside_functions: tuple[str, ...] = ()
    itself: bool = True


# parts that need no other, and those that need only them
LEAVES = ("checks", "compat", "extras", "keywords", "moved")
LOW = (*LEAVES, "features", "initialization", "layers", "upsampling", "resampling", "ops", "weights")
CORE = ("", "files", "packaged", *LOW, "necks", "backbones", "pyramid")
ABOVE_CORE = ("conversion", "training", "resuming", "sharding", "data", "inference", "testing")
ABOVE_THAT = ("zoo", "analysis", "recipes", "visualization", "watching", "export", "registry", "adapters", "commands")
NOT_CORE = (*ABOVE_CORE, *ABOVE_THAT)
# what an adapter may import; `export` never asks for the detector, adapters hand it over
BELOW_ADAPTERS = (*CORE, *ABOVE_CORE, "zoo", "analysis", "recipes", "export", "adapters.config_errors")
NUMERIC = ("torch", "numpy")
IMAGES = ("PIL", "pycocotools")
# by module; the longest prefix wins
RULES = {
    "": Allowed(("features", "necks", "backbones", "pyramid", "moved", "packaged"), ()),
    "files": Allowed(),
    "checks": Allowed(),
    "compat": Allowed(),
    "extras": Allowed(external=()),
    "keywords": Allowed(("checks",)),
    "moved": Allowed(external=()),
    "packaged": Allowed(("checks",), ()),
    "features": Allowed(("checks", "compat")),
    "ops": Allowed(("checks", "compat"), inside_functions=("torchvision",)),
    "initialization": Allowed(("checks",)),
    "layers": Allowed(("features", "checks", "compat", "ops", "initialization")),
    "upsampling": Allowed(("features", "checks", "compat", "ops", "layers")),
    "resampling": Allowed(("features", "checks", "compat", "ops", "layers")),
    "weights": Allowed(("checks", "compat", "extras", "files", "moved"), inside_functions=("safetensors",)),
    "weights.maps": Allowed(("weights.key_map", "weights.transforms"), ()),
    "necks": Allowed(LOW),
    "necks.rfp": Allowed((*LOW, "necks", "backbones")),
    "backbones": Allowed(LOW),
    "backbones.map_files": Allowed((*LOW, "backbones", "files"), inside_functions=("safetensors",)),
    "backbones.lora": Allowed((*LOW, "backbones"), inside_functions=("peft",)),
    "backbones.timm": Allowed((*LOW, "backbones"), inside_functions=("timm", "huggingface_hub", "safetensors")),
    "pyramid": Allowed(CORE),
    "conversion": Allowed(CORE),
    "training": Allowed(CORE),
    "resuming": Allowed(CORE, NUMERIC),
    "sharding": Allowed(CORE),
    "data": Allowed(CORE, NUMERIC, (*IMAGES, "rich")),
    "data.pixels": Allowed((*CORE, "data"), NUMERIC, ("PIL", "cv2", "tifffile")),
    "inference": Allowed(CORE, NUMERIC, (*IMAGES, "cv2", "supervision", "torchvision")),
    "inference.engines": Allowed((*CORE, "inference"), NUMERIC, (*IMAGES, "onnxruntime", "openvino", "torchvision")),
    "testing": Allowed(CORE, NUMERIC),
    "zoo": Allowed((*CORE, "conversion"), inside_functions=("yaml", "safetensors")),
    "zoo.hub": Allowed(("extras",), external=(), inside_functions=("huggingface_hub",)),
    "analysis": Allowed((*CORE, "data", "inference"), NUMERIC, (*IMAGES, "tqdm", "panopticapi")),
    "recipes": Allowed((*CORE, "data", "analysis"), NUMERIC),
    "visualization": Allowed((*CORE, "data", "analysis"), NUMERIC, ANY),
    "watching": Allowed((*CORE, "resuming", "sharding", "data", "visualization"), NUMERIC, ("PIL",)),
    "export": Allowed((*CORE, "inference"), NUMERIC, ANY),
    "registry": Allowed(("checks",), ("mmengine",)),
    "adapters": Allowed(external=(), itself=False),
    "adapters.config_errors": Allowed(("checks",), ()),
    "adapters.hosts": Allowed(
        (*CORE, "conversion", "data", "analysis", "inference", "export", "adapters.config_errors")
    ),
    "adapters.detectors": Allowed((*CORE, "conversion", "data", "inference", "zoo", "adapters.hosts")),
    "adapters.sahi": Allowed((*CORE, "inference", "adapters.detectors"), (*NUMERIC, "sahi", "cv2")),
    "adapters.mmdet": Allowed((*BELOW_ADAPTERS, "watching", "registry"), (*NUMERIC, "mmengine", "mmcv", "mmdet")),
    "adapters.detectron2": Allowed(
        (*BELOW_ADAPTERS, "watching"), (*NUMERIC, "detectron2", "fvcore", "omegaconf", "yaml"), ("mlflow", "wandb")
    ),
    "adapters.mmcv": Allowed(CORE, NUMERIC, ("torchvision", "mmcv")),
    "adapters.torchvision": Allowed(BELOW_ADAPTERS, ("torch", "torchvision")),
    "commands": Allowed(ANY, NUMERIC, ANY),
}


def is_below(name: str, parts: tuple[str, ...]) -> bool:
    """Whether ``name`` is one of ``parts`` or inside one (``""`` has nothing inside, ``"*"`` has everything)."""
    return any(part in (name, "*") or (part != "" and name.startswith(f"{part}.")) for part in parts)


def violations(package: Path) -> list[str]:
    """Describe every import that the rules do not allow."""
    found = []
    modules = modules_of(package)
    for module in modules:
        owner = max((rule for rule in RULES if is_below(module, (rule,))), key=len, default=None)
        if owner is None:
            found.append(f"{module}: no rule covers this module")
            continue
        rule = RULES[owner]
        for entry in imports_of(module, package, modules):
            top = entry.name.split(".")[0]
            if entry.module is not None:
                fine = is_below(entry.module, (*rule.internal, *([owner] if rule.itself and owner else [])))
            elif top in OUTSIDE:
                fine = False
            else:
                external = (*rule.external, *(rule.inside_functions if entry.inside else ()), "__future__")
                fine = top in sys.stdlib_module_names or is_below(top, external)
            if not fine:
                found.append(f"{module or package.name} imports {entry.name}" + " inside a function" * entry.inside)
    return found


def test_every_import_is_allowed():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("__init__.py", "from .conversion import convert", "fpn_plugins imports .conversion"),
        ("files.py", "from .checks import f", "files imports .checks"),
        ("checks.py", "from .features import f", "checks imports .features"),
        ("compat.py", "from .checks import f", "compat imports .checks"),
        ("keywords.py", "from .features import f", "keywords imports .features"),
        ("moved.py", "import torch", "moved imports torch"),
        ("packaged.py", "import torch", "packaged imports torch"),
        ("extras.py", "import torch", "extras imports torch"),
        ("features.py", "from .layers import GROUPS", "features imports .layers"),
        ("ops/x.py", "from ..layers import GROUPS", "ops.x imports .layers"),
        ("initialization.py", "from .layers import GROUPS", "initialization imports .layers"),
        ("layers.py", "import numpy", "layers imports numpy"),
        ("layers.py", "def f():\n    import numpy", "layers imports numpy inside a function"),
        ("layers.py", "from .weights import KeyMap", "layers imports .weights"),
        ("upsampling/x.py", "from ..necks import FPN", "upsampling.x imports .necks"),
        ("resampling.py", "from .weights import KeyMap", "resampling imports .weights"),
        ("weights/checkpoint.py", "from safetensors.torch import load_file", "imports safetensors.torch"),
        ("weights/checkpoint.py", "from ..conversion import convert", "imports .conversion"),
        ("weights/maps/fpn.py", "import torch", "weights.maps.fpn imports torch"),
        ("weights/maps/fpn.py", "from ..checkpoint import read_checkpoint", "imports .weights.checkpoint"),
        ("necks/fpn.py", "from ..backbones import TimmBackbone", "necks.fpn imports .backbones"),
        ("necks/fpn.py", "from .. import backbones", "necks.fpn imports .backbones"),
        ("necks/rfp.py", "from ..conversion import convert", "necks.rfp imports .conversion"),
        ("backbones/vit/vit.py", "from ...necks import FPN", "backbones.vit.vit imports .necks"),
        ("backbones/vit/vit.py", "def f():\n    import timm", "backbones.vit.vit imports timm inside a function"),
        ("backbones/lora.py", "import peft", "backbones.lora imports peft"),
        ("backbones/map_files.py", "import safetensors", "backbones.map_files imports safetensors"),
        ("backbones/timm/networks.py", "import timm", "backbones.timm.networks imports timm"),
        ("backbones/timm/networks.py", "try:\n    import timm\nexcept ImportError:\n    timm = None", "imports timm"),
        ("pyramid.py", "from .conversion import convert", "pyramid imports .conversion"),
        ("conversion/heads.py", "from ..zoo import Zoo", "conversion.heads imports .zoo"),
        ("training.py", "from .data import read", "training imports .data"),
        ("resuming.py", "from .data import read", "resuming imports .data"),
        ("sharding.py", "from .training import layer_lr_factors", "sharding imports .training"),
        ("data/pixels.py", "import tifffile", "data.pixels imports tifffile"),
        ("data/x.py", "from PIL import Image", "data.x imports PIL"),
        ("data/x.py", "from ..adapters import mmdet", "data.x imports .adapters.mmdet"),
        ("data/x.py", "def f():\n    import tools.train", "data.x imports tools.train inside a function"),
        ("inference/pictures.py", "from ..analysis import agreement", "inference.pictures imports .analysis"),
        ("inference/engines/files.py", "from ...analysis import x", "inference.engines.files imports .analysis"),
        ("testing.py", "from .inference import Detections", "testing imports .inference"),
        ("zoo/index.py", "import yaml", "zoo.index imports yaml"),
        ("zoo/index.py", "from ..adapters.mmdet import x", "zoo.index imports .adapters.mmdet.x"),
        ("zoo/hub.py", "def f():\n    import yaml", "zoo.hub imports yaml inside a function"),
        ("analysis/cost.py", "from ..visualization import show", "analysis.cost imports .visualization"),
        ("recipes/plan.py", "from ..adapters import hosts", "recipes.plan imports .adapters.hosts"),
        ("visualization/x.py", "from ..inference import Detections", "visualization.x imports .inference"),
        ("visualization/x.py", "import matplotlib", "visualization.x imports matplotlib"),
        ("watching/x.py", "from ..inference import Detections", "watching.x imports .inference"),
        ("export/x.py", "from ..adapters import hosts", "export.x imports .adapters.hosts"),
        ("registry.py", "import mmdet", "registry imports mmdet"),
        ("adapters/__init__.py", "from . import mmdet", "adapters imports .adapters.mmdet"),
        ("adapters/config_errors.py", "import torch", "adapters.config_errors imports torch"),
        ("adapters/hosts.py", "from . import mmdet", "adapters.hosts imports .adapters.mmdet"),
        ("adapters/hosts.py", "def f():\n    from .mmdet import x", "imports .adapters.mmdet.x inside a function"),
        ("adapters/detectors.py", "from .mmdet import x", "adapters.detectors imports .adapters.mmdet.x"),
        ("adapters/sahi.py", "from ..analysis import agreement", "adapters.sahi imports .analysis"),
        ("adapters/mmdet/__init__.py", "from ..detectron2 import config", "imports .adapters.detectron2.config"),
        ("adapters/mmdet/__init__.py", "import detectron2", "adapters.mmdet imports detectron2"),
        ("adapters/mmdet/__init__.py", "from ...visualization import show", "imports .visualization"),
        ("adapters/detectron2/__init__.py", "from ...registry import MODELS", "imports .registry"),
        ("adapters/detectron2/__init__.py", "from fpn_plugins.registry import MODELS", "imports .registry"),
        ("adapters/detectron2/__init__.py", "from mmengine import Config", "imports mmengine"),
        ("adapters/mmcv/nms.py", "import torchvision", "adapters.mmcv.nms imports torchvision"),
        ("adapters/mmcv/nms.py", "from ..mmdet import x", "adapters.mmcv.nms imports .adapters.mmdet.x"),
        ("adapters/torchvision.py", "from .mmdet import x", "adapters.torchvision imports .adapters.mmdet.x"),
        ("commands/train.py", "import mmdet", "commands.train imports mmdet"),
        ("commands/train.py", "import tools", "commands.train imports tools"),
    ],
)
def test_the_checker_reports_a_planted_violation(tmp_path: Path, path: str, source: str, expected: str):
    """The rules would be worth nothing if the checker let everything pass."""
    package = empty_package(tmp_path, path)
    assert violations(package) == []
    (package / path).write_text(source)
    (violation,) = violations(package)
    assert expected in violation


def test_every_rule_has_a_planted_violation():
    (mark,) = (m for m in test_the_checker_reports_a_planted_violation.pytestmark if m.name == "parametrize")
    planted = [Path(path).with_suffix("").as_posix().replace("/", ".") for path, *_ in mark.args[1]]
    modules = {name.removesuffix("__init__").removesuffix(".") for name in planted}
    owners = {max((rule for rule in RULES if is_below(module, (rule,))), key=len) for module in modules}
    assert owners == set(RULES)


def test_a_module_without_a_rule_is_a_violation(tmp_path: Path):
    """A new folder must say what it may import."""
    assert violations(empty_package(tmp_path, "novelty.py")) == ["novelty: no rule covers this module"]


def empty_package(root: Path, path: str) -> Path:
    """A package of empty modules: ``path`` and those that the planted sources name."""
    package = root / "fpn_plugins"
    folders = ("necks", "backbones", "weights", "conversion", "data", "zoo", "analysis", "visualization")
    named = (
        *("layers.py", "checks.py", "features.py", "inference/__init__.py", "registry.py", "weights/checkpoint.py"),
        *(f"{folder}/__init__.py" for folder in folders),
        *("adapters/hosts.py", "adapters/mmdet/x.py", "adapters/detectron2/config.py"),
    )
    for file in (package / name for name in (*named, path)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        for folder in file.relative_to(package).parents:
            (package / folder / "__init__.py").touch()
    return package


def dynamic_imports(package: Path) -> list[str]:
    """Modules that import by a computed name, once for each place."""
    calls = ("import_module", "__import__")
    return [
        module
        for module, path in modules_of(package).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in calls
    ]


def test_a_planted_dynamic_import_is_found(tmp_path: Path):
    package = empty_package(tmp_path, "layers.py")
    assert dynamic_imports(package) == []
    calls = "import importlib\nimportlib.import_module('a')\ndef f():\n    return __import__('b')\n"
    (package / "adapters" / "hosts.py").write_text(calls)
    assert dynamic_imports(package) == ["adapters.hosts"] * 2


def test_a_host_is_imported_by_name_in_one_place():
    assert [module for module in dynamic_imports(PACKAGE) if module.startswith("adapters")] == ["adapters.hosts"]


# ------------------------------------------------------------------------------------------------------------ cycles


def test_no_module_imports_itself_through_others():
    assert import_cycle(PACKAGE) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"layers.py": "from .features import X", "features.py": "from . import layers"},
        {"layers.py": "from .necks.fpn import X", "necks/__init__.py": "from ..layers import Y", "necks/fpn.py": ""},
        {"zoo/a.py": "from .b import X", "zoo/b.py": "import fpn_plugins.zoo.c", "zoo/c.py": "from . import a"},
        {"zoo/a.py": "from ..zoo import X", "zoo/__init__.py": "from .a import X"},
    ],
)
def test_a_planted_cycle_is_found(tmp_path: Path, sources: dict[str, str]):
    package = empty_package(tmp_path, "layers.py")
    assert import_cycle(package) == []
    for path, source in sources.items():
        (package / path).write_text(source)
    cycle = import_cycle(package)
    assert cycle[0] == cycle[-1] and len(cycle) >= 3


@pytest.mark.parametrize(
    "form", ["def f():\n    from .layers import X", "if TYPE_CHECKING:\n    from .layers import X"]
)
def test_late_imports_are_no_cycle(tmp_path: Path, form: str):
    package = empty_package(tmp_path, "layers.py")
    (package / "layers.py").write_text("from .features import X")
    (package / "features.py").write_text(form)
    assert import_cycle(package) == []


# ---------------------------------------------------------------------------------------------- fresh interpreters

OBSERVE = """
import importlib, json, sys

package, watched, block = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in block:
            raise ImportError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
module = importlib.import_module(package)
seen = {"loaded": sorted(name for name in watched if name in sys.modules), "errors": {}}

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
    watched = (*OPTIONAL, *(f"{package}.{part}" for part in NOT_CORE))
    arguments = json.dumps([package, watched, block])
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
    """Observations where no optional library can be imported."""
    return observe("fpn_plugins", PACKAGE.parent, block=OPTIONAL)


def test_importing_the_package_loads_no_optional_library_and_nothing_above_the_core():
    assert observe("fpn_plugins", PACKAGE.parent)["loaded"] == []


def test_all_parts_of_the_package_are_core_or_not():
    parts = {module.split(".")[0] for module in modules_of(PACKAGE)}
    assert parts <= {*CORE, *NOT_CORE}


def test_the_observer_sees_a_planted_import(tmp_path: Path):
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "__init__.py").write_text("import safetensors\nfrom . import zoo\n")
    (tmp_path / "planted" / "zoo.py").touch()
    assert observe("planted", tmp_path)["loaded"] == ["planted.zoo", "safetensors"]
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
