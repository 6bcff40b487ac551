"""Imports of a package, read from its source: who imports whom, and where that is a cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        name: dotted name; parts of the package begin with a dot, ``"."`` is the package itself.
        inside: whether it is imported inside a function.
    """

    name: str
    inside: bool

    @property
    def module(self) -> str | None:
        """Name below the package; ``None`` for other packages."""
        return self.name[1:] if self.name.startswith(".") else None


def modules_of(package: Path) -> dict[str, Path]:
    """Map the name of every module below the package (``""`` is the package itself) to its file."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if not any(part.startswith(".") for part in parts):
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports_of(module: str, package: Path, modules: dict[str, Path]) -> Iterator[Import]:
    """Yield the imports of a module, except those for type checkers alone."""
    folder = module.split(".") if module else []
    if modules[module].name != "__init__.py":
        folder = folder[:-1]

    def names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                internal = alias.name.split(".")[0] == package.name
                yield (alias.name.removeprefix(package.name) or ".") if internal else alias.name
            return
        if node.level:
            base = ".".join([*folder[: len(folder) - node.level + 1], *([node.module] if node.module else [])])
        elif (node.module or "").split(".")[0] == package.name:
            base = (node.module or "").removeprefix(package.name).lstrip(".")
        else:
            yield node.module or ""
            return
        for alias in node.names:  # `from ... import necks` names a module, `from ...features import X` does not
            full = f"{base}.{alias.name}".lstrip(".")
            yield "." + (full if full in modules else base)

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (Import(name, inside) for name in names(node))
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.orelse if typing_only else ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return visit(ast.parse(modules[module].read_text(encoding="utf-8")), False)


def import_cycle(package: Path) -> list[str]:
    """Find a cycle of module-level imports; empty if there is none.

    An import also runs the packages around the imported module, except those around the importing one, which are
    being imported already.
    """
    modules = modules_of(package)
    graph: dict[str, set[str]] = {}
    for module in modules:
        around = set(packages_around(module))
        graph[module] = set()
        for entry in imports_of(module, package, modules):
            if entry.module is not None and not entry.inside:
                graph[module] |= {entry.module, *packages_around(entry.module)} - (around - {entry.module})
        graph[module] -= {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def packages_around(module: str) -> list[str]:
    """Names of the packages that contain a module, e.g. ``["", "necks"]`` for ``necks.fpn``."""
    parts = module.split(".") if module else []
    return [".".join(parts[:length]) for length in range(len(parts))]
