"""Check files of ``torch.export.save`` before ``torch.export.load`` reads them, and move programs to a device.

PyTorch unpickles whatever such a file holds, resolves the names of operators by attributes of ``torch``, and evaluates
sizes and guards as Python expressions. A file that passes the check has tensors as plain bytes, operators of PyTorch
and torchvision, and arithmetic of sizes, and nothing else.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ...files import suffix_of

_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+(\.\w+)?|torch\.ops\.higher_order\.\w+|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|(torch\.)?(sym_)?(max|min|round|float|int)"
)
_FILE_OPERATORS = {"from_file", "save"}  # they read and write files
# functions of sizes, as PyTorch writes them
_FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv"),
    *("CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "ModularIndexing", "Where", "PowByNatural", "FloatPow"),
    *("CeilToInt", "FloorToInt", "TruncToInt", "TruncToFloat", "RoundToInt", "RoundDecimal", "ToFloat", "Identity"),
    *("Abs", "Eq", "Ne", "Equality", "Unequality", "LessThan", "GreaterThan", "StrictLessThan", "StrictGreaterThan"),
    *("And", "Or", "Not", "Piecewise", "ExprCondPair", "OpaqueUnaryFn_sqrt", "max", "min", "abs", "floor", "ceiling"),
}
_NAMES = re.compile(r"[suzi]\d+|zuf\d+|L|oo|int_oo|true|false")
_ATTRIBUTES = ("size", "shape", "stride", "storage_offset", "dtype", "device")
# files in an archive; PyTorch parses each one below models/ as JSON, whatever its suffix
_ENTRIES = re.compile(
    r"archive_(format|version)|version|byteorder|\.(data/)?\w+|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/(weights|constants)/[\w.]+|extra/.+"
)
_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name),
    *(ast.Attribute, ast.Subscript, ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def check_program(path: Path) -> None:
    """Raise ``ValueError`` if a ``.pt2`` file holds anything besides tensors, operators and arithmetic of sizes.

    Entries are read by PyTorch's own reader, which ignores case in their names and takes the first of several, so that
    what is checked is what ``torch.export.load`` gets.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(archive.namelist())
        records = torch._C.PyTorchFileReader(str(path))
        for name in records.get_all_records():
            _check_entry(name, records.get_record)
    except (zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{str(path)!r} is damaged, or no file of torch.export.save: {reason}") from error
    except _Refused as error:
        raise ValueError(f"{str(path)!r} is not loaded: it holds {error}; export the detector again") from None


def moved_program(program: torch.export.ExportedProgram, device: str) -> torch.export.ExportedProgram:
    """Move a program to a device, with the tensors that it makes itself; ``ValueError`` on PyTorch below 2.7."""
    if device == "cpu":
        return program
    try:
        from torch.export.passes import move_to_device_pass
    except ImportError as error:
        raise ValueError(f"device={device!r}: programs move to other devices with PyTorch 2.7; use 'cpu'") from error
    return move_to_device_pass(program, device)


class _Refused(Exception):
    """Content that an exported detector does not need."""


def _check_names(names: Sequence[str]) -> None:
    """Refuse names that readers of archives resolve differently, and PyTorch's older format."""
    seen: set[str] = set()
    for name in names:
        if "/" not in name:
            raise _Refused(f"an entry of an older format ({name})")
        if name.lower() in seen:
            raise _Refused(f"one name more than once ({name})")
        seen.add(name.lower())


def _check_entry(name: str, read: Callable[[str], bytes]) -> None:
    lower = name.lower()
    if "aotinductor" in lower or suffix_of(name) in (".so", ".py", ".cpp"):
        raise _Refused(f"compiled code ({name})")
    if "custom_obj" in lower:
        raise _Refused(f"a custom object ({name})")
    if not _ENTRIES.fullmatch(name):
        raise _Refused(f"an entry that torch.export.save does not write ({name})")
    if lower.endswith(".pt"):
        _check_pickle(read(name), name)
    elif lower.endswith(".json") and not lower.startswith("extra/"):
        for key, value in _entries(_parsed(read(name), name)):
            _check_value(key, value)


def _check_pickle(content: bytes, name: str) -> None:
    """Refuse what PyTorch would unpickle without restriction after its restricted reader has failed."""
    if content:
        try:
            torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:  # pickle's and PyTorch's, of many kinds
            raise _Refused(f"a pickled object other than tensors ({name})") from error


def _parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"damaged JSON ({name})") from error


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of parsed JSON with its value, at any depth."""
    open_parts = [content]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            yield from part.items()
            open_parts += part.values()
        elif isinstance(part, list):
            open_parts += part


def _check_value(key: str, value: Any) -> None:
    if key == "use_pickle" and value:
        raise _Refused("pickled weights")
    if key == "target" and isinstance(value, str) and not _is_operator(value):
        raise _Refused(f"the function {value[:80]!r}")
    texts = value if key == "guards_code" else [value] if key == "expr_str" else []
    for text in texts or []:
        if not is_arithmetic(text):
            raise _Refused(f"the expression {str(text)[:80]!r}")


def _is_operator(target: str) -> bool:
    # a parameter's target in the signature is a name of the model, which PyTorch only looks up in its weights
    if not target.startswith(("torch", "_operator", "math", "#")):
        return True
    return bool(_OPERATORS.fullmatch(target)) and _FILE_OPERATORS.isdisjoint(target.split("."))


def is_arithmetic(text: object) -> bool:
    """Return whether a text is an expression of sizes: numbers, symbols, operators and functions of integers."""
    if not isinstance(text, str):
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain(node) for node in ast.walk(tree))


def _is_plain(node: ast.AST) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or bool(_NAMES.fullmatch(node.id))
    if isinstance(node, ast.Attribute):
        return node.attr in _ATTRIBUTES
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or re.fullmatch(r"[\w.]+", node.value) is not None
    return True
