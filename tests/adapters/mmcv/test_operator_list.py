"""No operator that mmdet needs is forgotten: its sources and configs say which, and mmcv's how they are called."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmcv_operators import without_compiled

from fpn_plugins.adapters.mmcv import extension
from fpn_plugins.adapters.mmcv.operator import OPERATORS

pytestmark = pytest.mark.mmdet


def package(name: str) -> Path:
    return Path(importlib.import_module(name).__file__).parent


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def of_operators(node: ast.ImportFrom) -> str:
    """Module of ``mmcv/ops`` from which a module there imports, empty for another package's."""
    module = node.module or ""
    return module if node.level == 1 else module.removeprefix("mmcv.ops.") if module.startswith("mmcv.ops.") else ""


def definitions(path: Path) -> dict[str, tuple[Path, ast.AST]]:
    """Functions, classes and variables of a module, also those that it imports from its own package."""
    found: dict[str, tuple[Path, ast.AST]] = {}
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = path, node
        elif isinstance(node, ast.Assign):
            found |= {target.id: (path, node) for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (module := of_operators(node)):
            other = definitions(path.parent / f"{module}.py")
            found |= {alias.asname or alias.name: other[alias.name] for alias in node.names if alias.name in other}
    return found


def needed_by(name: str, path: Path, seen: set[tuple[Path, str]]) -> set[str]:
    """Functions of the extension that an object of ``mmcv/ops`` calls, or anything that it refers to."""
    here = definitions(path)
    if name not in here or (path, name) in seen:
        return set()
    seen.add((path, name))
    place, node = here[name]
    needed = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "ext_module":
            needed.add(part.attr)
        elif isinstance(part, ast.Name):
            needed |= needed_by(part.id, place, seen)
    return needed


def imported_by_mmdet() -> set[str]:
    """Names that mmdet's sources import from ``mmcv.ops`` or one of its modules."""
    names = set()
    for path in package("mmdet").rglob("*.py"):
        for node in ast.walk(tree(path)) if "mmcv.ops" in path.read_text(encoding="utf-8") else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] == ["mmcv", "ops"]:
                names |= {alias.name for alias in node.names}
    return names


def named_by_configs() -> set[str]:
    """Objects of ``mmcv.ops`` that mmdet's own configs name as a ``type``, by their class's name."""
    import mmcv.ops
    from mmengine.registry import MODELS

    values = set()
    for path in (package("mmdet") / ".mim" / "configs").rglob("*.py"):
        values.update(re.findall(r"""\btype=["'](?:mmdet\.)?(\w+)["']""", path.read_text(encoding="utf-8")))
    registered = {name: MODELS.get(name) for name in values & set(MODELS.module_dict)}
    names = {entry.__name__ for entry in registered.values() if entry.__module__.startswith("mmcv.ops")}
    return names | {name for name in values if hasattr(mmcv.ops, name)}


def files_of_operators(names: set[str]) -> dict[str, Path]:
    """File of ``mmcv/ops`` in which each object is defined."""
    exported = definitions(package("mmcv") / "ops" / "__init__.py")
    merged = definitions(package("mmcv") / "ops" / "merge_cells.py")  # not exported
    return {name: (exported | merged)[name][0] for name in names}


def test_every_operator_of_mmdet_is_there():
    names = imported_by_mmdet() | named_by_configs()
    assert {"batched_nms", "DeformConv2d", "MaskedConv2d", "sigmoid_focal_loss", "line_nms"} <= names
    assert {"soft_nms", "SyncBatchNorm", "SAConv2d", "DeformRoIPoolPack", "CARAFEPack"} <= names
    needed = {name: needed_by(name, path, set()) for name, path in files_of_operators(names).items()}
    assert {name: sorted(calls - set(OPERATORS)) for name, calls in needed.items() if calls - set(OPERATORS)} == {}
    called = set().union(*needed.values())
    assert {"nms", "modulated_deform_conv_backward", "ms_deform_attn_forward", "line_nms_forward"} <= called
    assert "deform_conv_forward" in needed["SAConv2d"]
    page = (Path(__file__).parents[3] / "docs" / "mmcv_operators.md").read_text(encoding="utf-8")
    assert [name for name in needed if needed[name] and f"`{name}`" not in page] == []


def test_operators_take_the_arguments_that_mmcv_passes():
    bound = set()
    for path in (package("mmcv") / "ops").glob("*.py"):
        for node in ast.walk(tree(path)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("ext_module.")):
                continue
            name = ast.unparse(node.func).removeprefix("ext_module.")
            if name in OPERATORS and not any(isinstance(argument, ast.Starred) for argument in node.args):
                keywords = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(OPERATORS[name]).bind(*node.args, **keywords)
                bound.add(name)
    # two calls pass a list of tensors
    assert bound == set(OPERATORS) - {"nms_match"}


def test_operators_stand_in_for_the_extension():
    """Every name that any of mmcv's files loads is there, and nothing private is."""
    assert all(isinstance(module, ModuleType) for module in extension.MODULES)
    assert callable(extension.nms) and callable(extension.anything)
    with pytest.raises(AttributeError, match="__path__"):
        _ = extension.__path__
    assert "fpn_plugins" in extension.get_compiler_version() and extension.get_compiling_cuda_version()


def test_a_missing_operator_says_so_when_it_is_called():
    from mmcv.ops import nms_rotated

    with without_compiled(), pytest.raises(NotImplementedError, match="'nms_rotated' does not exist.*MMCV_WITH_OPS=1"):
        nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)
