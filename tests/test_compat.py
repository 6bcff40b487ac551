"""Everything newer than PyTorch 2.1 is in `fpn_plugins.compat`."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fpn_plugins
from fpn_plugins import compat
from fpn_plugins.weights import read_checkpoint

PACKAGE = Path(fpn_plugins.__file__).parent
# names that PyTorch 2.1 lacks, by module: those that this package could want
NEWER = {
    "torch": {
        "accelerator",
        "get_default_device",
        "get_autocast_dtype",
        "set_autocast_enabled",
        "sym_sum",
        "export.Dim",
    },
    "torch.amp": {"GradScaler", "custom_bwd", "custom_fwd", "is_autocast_available"},
    "torch.compiler": {"is_compiling", "is_dynamo_compiling", "is_exporting", "set_stance", "substitute_in_graph"},
    "torch.export": {"Dim", "draft_export", "export_for_training", "register_dataclass", "save", "unflatten"},
    "torch.library": {"custom_op", "register_autograd", "register_fake", "register_kernel", "opcheck", "triton_op"},
    "torch.nn": {"RMSNorm", "Buffer", "attention"},
    "torch.nn.functional": {"rms_norm"},
    "torch.serialization": {
        *("add_safe_globals", "clear_safe_globals", "get_safe_globals", "safe_globals", "skip_data"),
        *("get_unsafe_globals_in_checkpoint", "set_crc32_options"),
    },
    "torch.utils": {"swap_tensors"},
    "torch.utils.checkpoint": {"CheckpointPolicy", "create_selective_checkpoint_contexts", "set_checkpoint_early_stop"},
    "torch.optim": {"Adafactor", "Muon"},
}
# names that it has, with other arguments
CHANGED = {"torch.is_autocast_enabled", "torch.is_autocast_cpu_enabled"}
ALIASES = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch"}


def torch_names(source: str) -> Iterator[str]:
    """Dotted names of PyTorch in a module's source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in ALIASES and rest.replace(".", "").replace("_", "").isalnum():
                yield f"{ALIASES[first]}.{rest}"
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "torch":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used_names() -> dict[str, str]:
    """Names that the package uses outside `compat`, each with a file."""
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "compat.py" and ".mim" not in file.parts]
    return {name: file.name for file in files for name in torch_names(file.read_text(encoding="utf-8"))}


def is_newer(name: str) -> bool:
    names = {f"{module}.{entry}" for module, entries in NEWER.items() for entry in entries} | CHANGED
    return any(name == entry or name.startswith(f"{entry}.") for entry in names)


def test_newer_names_are_in_one_place():
    used = used_names()
    assert len(used) > 100
    assert {f"{file}: {name}" for name, file in used.items() if is_newer(name)} == set()


@pytest.mark.parametrize(
    "source",
    [
        "torch.compiler.is_compiling()",
        "torch.is_autocast_enabled('cpu')",
        "from torch.export import Dim",
        "with torch.serialization.safe_globals([]): pass",
        "x = nn.RMSNorm(3)",
        "F.rms_norm(x, (3,))",
    ],
)
def test_a_planted_name_is_found(source: str):
    assert any(is_newer(name) for name in torch_names(source))


def test_every_name_exists_in_this_version():
    """Run with PyTorch 2.1 (`make test-matrix`), this finds newer names that the list above lacks."""
    missing = []
    for name, file in used_names().items():
        value = functools.reduce(lambda owner, part: getattr(owner, part, None), name.split(".")[1:], torch)
        if value is None and name not in ("torch.version.cuda", "torch.version.hip"):
            missing.append(f"{file}: {name}")
    assert missing == []


def test_recording_is_noticed():
    assert not compat.compiling()
    found = []

    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if compat.compiling() else x + 2

    found = torch.compile(function, backend="eager")(torch.zeros(1))
    assert found.item() == 1


def test_autocast_of_each_device():
    with torch.autocast("cpu", torch.bfloat16):
        assert compat.autocast_enabled("cpu") and not compat.autocast_enabled("cuda")
    assert not compat.autocast_enabled("cpu")
    assert not compat.autocast_enabled("meta")


class Log:
    """What a training stores beside its weights."""

    def __init__(self, *values: float) -> None:
        self.values = values


class Rebuilt:
    def __init__(self, *values: float) -> None: ...

    def __setstate__(self, state: dict) -> None:
        self.state = state


@pytest.fixture(params=["as installed", "before 2.6"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "before 2.6":
        monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint", raising=False)


def test_named_globals_are_replaced_and_others_refused(version: None, tmp_path: Path):
    path = tmp_path / "x.pth"
    state = {"w": torch.arange(3.0), "half": torch.ones(2).bfloat16(), "p": torch.nn.Parameter(torch.ones(1))}
    torch.save({"state_dict": state, "log": Log(1.0)}, path)
    name = f"{Log.__module__}.Log"
    content = compat.load_weights(path, {name: Rebuilt})
    assert type(content["log"]) is Rebuilt and content["log"].state == {"values": (1.0,)}
    for key, value in state.items():
        assert torch.equal(content["state_dict"][key], value) and content["state_dict"][key].dtype == value.dtype
    with pytest.raises(Exception, match="Log"):
        compat.load_weights(path, {"other.name": Rebuilt})


def test_a_log_beside_the_weights_is_skipped(version: None, tmp_path: Path):
    import numpy as np

    torch.save({"state_dict": {"w": torch.ones(2)}, "best": np.float64(0.5)}, tmp_path / "x.pth")
    assert torch.equal(read_checkpoint(tmp_path / "x.pth")["w"], torch.ones(2))
