"""Everything newer than PyTorch 2.1 is in `fpn_plugins.compat`."""

from __future__ import annotations

import ast
import contextlib
import importlib
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from versions import EXPORTS

import fpn_plugins
from fpn_plugins import compat
from fpn_plugins.weights import read_checkpoint

PACKAGE = Path(fpn_plugins.__file__).parent
# what PyTorch 2.11 has and 2.1 lacks, by module, with everything inside it
NEWER = {
    "torch": "AcceleratorError Event GradScaler OutOfMemoryError accelerator cond get_autocast_dtype "
    "get_default_device get_device_module mtia newaxis rms_norm set_autocast_dtype sym_fresh_size sym_ite sym_sqrt "
    "sym_sum unravel_index while_loop xpu",
    "torch.amp": "GradScaler custom_bwd custom_fwd is_autocast_available",
    "torch.autograd.graph": "GradientEdge get_gradient_edge",
    "torch.backends.cuda": "can_use_efficient_attention can_use_flash_attention cudnn_sdp_enabled enable_cudnn_sdp "
    "is_flash_attention_available",
    "torch.compiler": "cudagraph_mark_step_begin is_compiling is_dynamo_compiling is_exporting nested_compile_region "
    "set_stance substitute_in_graph wrap_numpy",
    "torch.cuda": "MemPool device_memory_used host_memory_stats is_tf32_supported use_mem_pool",
    "torch.distributed": "DeviceMesh device_mesh get_node_local_rank init_device_mesh send_object_list split_group",
    "torch.export": "AdditionalInputs Dim ShapesCollection draft_export register_dataclass unflatten",
    "torch.library": "custom_op infer_schema opcheck register_autocast register_autograd register_fake register_kernel "
    "register_torch_dispatch register_vmap triton_op wrap_triton",
    "torch.nn": "Buffer LPPool3d RMSNorm attention",
    "torch.nn.functional": "grouped_mm lp_pool3d rms_norm scaled_mm",
    "torch.nn.utils": "clip_grads_with_norm_ fuse_linear_bn_eval get_total_norm",
    "torch.optim": "Adafactor Muon",
    "torch.serialization": "add_safe_globals clear_safe_globals get_safe_globals get_unsafe_globals_in_checkpoint "
    "safe_globals skip_data",
    "torch.utils": "deterministic",
    "torch.utils.checkpoint": "CheckpointPolicy create_selective_checkpoint_contexts",
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
    names = {f"{module}.{entry}" for module, entries in NEWER.items() for entry in entries.split()} | CHANGED
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


def exists(name: str) -> bool:
    value: Any = torch
    parts = name.split(".")
    for number, part in enumerate(parts[1:], 2):
        if not hasattr(value, part):
            with contextlib.suppress(ImportError):
                importlib.import_module(".".join(parts[:number]))
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def test_every_name_exists_in_this_version():
    """Run with PyTorch 2.1 (`make test-matrix`), this finds newer names that the list above lacks."""
    assert exists("torch.utils.flop_counter.FlopCounterMode") and not exists("torch.nn.Invented")
    static = {name: file for name, file in used_names().items() if not name.startswith("torch.ops.")}
    assert {f"{file}: {name}" for name, file in static.items() if not exists(name)} == set()


def test_recording_is_noticed():
    assert not compat.compiling()

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
    torch.save({"state_dict": state, "log": Log(1.0), "function": getattr}, path)
    content = compat.load_weights(path, {f"{Log.__module__}.Log": Rebuilt, "builtins.getattr": Rebuilt})
    assert type(content["log"]) is Rebuilt and content["log"].state == {"values": (1.0,)}
    assert content["function"] is Rebuilt
    for key, value in state.items():
        assert torch.equal(content["state_dict"][key], value) and content["state_dict"][key].dtype == value.dtype
    with pytest.raises(Exception, match="Log"):
        compat.load_weights(path, {"other.name": Rebuilt})


def test_a_log_beside_the_weights_is_skipped(version: None, tmp_path: Path):
    import numpy as np

    torch.save({"state_dict": {"w": torch.ones(2)}, "best": np.float64(0.5)}, tmp_path / "x.pth")
    assert torch.equal(read_checkpoint(tmp_path / "x.pth")["w"], torch.ones(2))


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.serialization.load", "torch.nested.Storage"])
def test_other_globals_are_refused_without_safe_globals(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    module, _, leaf = name.partition(".")
    torch.save({"x": torch.ones(2)}, tmp_path / "good.pth")
    more = {"numpy.dtype": dict}
    assert compat.load_weights(tmp_path / "good.pth", more)["x"].tolist() == [1, 1]

    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, leaf))
    names = b"\x80\x04" + texts + b"\x93."  # STACK_GLOBAL, which follows dots
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(tmp_path / "bad.pth", "w") as bad:
        for entry in good.namelist():
            bad.writestr(entry, names if entry.endswith("data.pkl") else good.read(entry))
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        compat.load_weights(tmp_path / "bad.pth", more)


def test_torchscript_is_refused_without_safe_globals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pth")
    with pytest.raises(pickle.UnpicklingError, match="TorchScript"):
        compat.load_weights(tmp_path / "script.pth", {"numpy.dtype": dict})


@EXPORTS
def test_what_torch_compile_records_is_no_export() -> None:
    """`torch.compiler.is_exporting` says so of both; deformable convolutions and checkpointing depend on it."""

    class Asks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + (10 if compat.exporting() else 1)

    module, x = Asks(), torch.zeros(1)
    assert torch.compile(module, backend="eager", fullgraph=True)(x) == module(x) == 1
    for strict in (True, False):
        assert torch.export.export(module, (x,), strict=strict).module()(x) == 10
