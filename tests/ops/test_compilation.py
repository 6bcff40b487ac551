"""A pyramid that is compiled in place: its maps, copies, log, options, and what records it from outside."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps
from registered import BACKBONE_ARGUMENTS, gradients
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel

from fpn_plugins import FeatureSpec, Pyramid
from fpn_plugins.ops import compilation, compiler

SWIN = {"type": "Swin", **BACKBONE_ARGUMENTS["Swin"], "embed_dim": 8, "depths": (1, 1, 1, 1)}
TRACED = {"backend": "aot_eager", "fullgraph": True}  # as the default backend, without its compiler
RECORDED = {"backend": "eager", "fullgraph": True}
# images of COCO at a quarter of their size
SIZES = [(64, 96), (96, 64), (64, 64), (96, 128), (72, 96), (97, 65), (128, 64), (80, 112)]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget graphs and warnings of other tests."""
    torch._dynamo.reset()
    compilation._warned.clear(), compiler.missing_compiler.cache_clear()
    yield
    compiler.missing_compiler.cache_clear()


class Plain(nn.Module):
    """A backbone that TorchScript compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_specs = (FeatureSpec(4, 4), FeatureSpec(6, 8))
        self.stem, self.stage = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return x, self.stage(x)


def test_torchscript_compiles_it():
    pyramid = build(compile=RECORDED)
    x = images()
    assert_same_maps(torch.jit.script(pyramid)(x), pyramid(x), tolerance=1e-6)


def build(backbone: Any = None, out_channels: int = 8, **arguments: Any) -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(backbone or Plain(), {"type": "FPN", "out_channels": out_channels}, **arguments).eval()


def images(size: tuple[int, int] = (64, 96)) -> Tensor:
    return torch.rand(2, 3, *size)


def graphs(module: Any) -> int:
    return module._compiled_call_impl.graphs


def test_changes_neither_maps_nor_gradients_nor_names():
    compiled, eager = build(SWIN, compile=TRACED).double(), build(SWIN).double()
    assert list(compiled.state_dict()) == list(eager.state_dict())
    compiled.load_state_dict(eager.state_dict())
    for training in (False, True):
        compiled.train(training), eager.train(training)
        x = images().double()
        maps, expected = compiled(x), eager(x)
        assert isinstance(maps, tuple)
        assert_same_maps(maps, expected)
        assert_same_gradients(gradients(compiled, maps), gradients(eager, expected))
    assert graphs(compiled) == 2


def test_dynamic_sizes_pass_the_compiler():
    """The compiler converts the scales of upsampling, with the sizes that they come from, to tensors."""
    compiled = build(SWIN, compile=TRACED).train()
    for size in SIZES[:2]:
        sum(y.square().mean() for y in compiled(images(size))).backward()
    assert 1 < graphs(compiled) <= 4


def test_few_graphs_serve_all_sizes_in_training_and_evaluation_of_several_detectors():
    """Together they would exceed the eight graphs that PyTorch compiles for one function."""
    for pyramid in [build(compile=RECORDED) for _ in range(3)]:
        for training in (True, False):
            before = graphs(pyramid)
            pyramid.train(training)
            for size in SIZES:
                pyramid(images(size))
            assert 1 <= graphs(pyramid) - before <= 4
    assert not torch._dynamo.utils.counters["unimplemented"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backbone", [None, SWIN], ids=["plain", "swin"])
def test_one_graph_serves_every_size_if_asked_for(backbone: Any, training: bool):
    pyramid = build(backbone, compile={**RECORDED, "dynamic": True}).train(training)
    for size in SIZES:
        pyramid(images(size))
    assert graphs(pyramid) == 1


def test_after_eight_graphs_further_sizes_run_uncompiled():
    pyramid = build(compile={"backend": "eager", "dynamic": False})
    for step in range(10):
        maps = pyramid(images((64 + 8 * step, 64)))
    assert maps[0].shape[-2:] == (34, 16) and graphs(pyramid) == 8


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_compiled_on_their_own(copied: Callable[[Any], Any]):
    pyramid = build(compile=RECORDED)
    expected = pyramid(images().fill_(0.5))
    other = copied(pyramid)
    assert other.compile_options == RECORDED and graphs(other) == 0
    assert_same_maps(other(images().fill_(0.5)), expected)
    assert graphs(other) == graphs(pyramid) == 1
    with torch.no_grad():
        next(other.parameters()).add_(1)  # such as an average of the weights
    assert not torch.equal(other(images().fill_(0.5))[0], expected[0]) and graphs(other) == 1


def on_meta(pyramid: Any, x: Tensor) -> Any:
    return copy.deepcopy(pyramid).to("meta")(x.to("meta"))


def on_fakes(pyramid: Any, x: Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return pyramid(mode.from_tensor(x))


RECORDERS: dict[str, Callable[[Any, Tensor], Any]] = {
    "torch.export": lambda pyramid, x: torch.export.export(pyramid, (x,)),
    "strict torch.export": lambda pyramid, x: torch.export.export(pyramid, (x,), strict=True),
    "torch.jit.trace": lambda pyramid, x: torch.jit.trace(pyramid, x, check_trace=False),
    "torch.compile": lambda pyramid, x: torch.compile(nn.Sequential(pyramid), **RECORDED)(x),
    "the meta device": on_meta,
    "fake tensors": on_fakes,
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("recorder", RECORDERS)
def test_what_records_it_meets_the_module_itself(recorder: str):
    pyramid = build(compile=RECORDED)
    RECORDERS[recorder](pyramid, images())
    assert graphs(pyramid) == 0


@pytest.mark.parametrize(("wrong", "error"), [(5, TypeError), (torch.rand(2, 4, 64, 96), ValueError)])
def test_wrong_images_have_the_usual_message(wrong: Any, error: type[Exception]):
    with pytest.raises(error, match="takes images B 3 H W"):
        build(SWIN, compile={"backend": "eager"})(wrong)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("true", TypeError, "compile='true' must be True, False, or options of torch.compile"),
        (None, TypeError, "compile=None must be True, False"),
        ({"mod": "default"}, TypeError, r"torch.compile has no option 'mod' \(near: mode\)"),
        ({"backend": "Bogus"}, ValueError, "compile={'backend': 'Bogus'}: torch.compile refuses it.*Bogus"),
        ({"mode": "Bogus"}, ValueError, "torch.compile refuses it.*Bogus"),
        ({"backend": 3}, TypeError, "compile={'backend': 3}: backend must be the name of one, or a function"),
        ({"fullgraph": "yes"}, TypeError, "compile={'fullgraph': 'yes'}: fullgraph must be a bool"),
    ],
)
def test_wrong_options_are_refused(wrong: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        build(compile=wrong)


def test_images_by_name_are_compiled_too():
    pyramid = build(compile=RECORDED)
    assert_same_maps(pyramid(x=images().fill_(0.5)), build()(images().fill_(0.5)))
    assert graphs(pyramid) == 1


def test_copies_of_data_parallel_compute_their_own_weights():
    pyramid = build(compile=RECORDED)
    with torch.no_grad():
        replica = pyramid._replicate_for_data_parallel()
        replica.backbone, replica.neck = (copy.deepcopy(part) for part in pyramid.parts())
        next(replica.parameters()).add_(1)
        assert not torch.equal(replica(images().fill_(0.5))[0], pyramid(images().fill_(0.5))[0])
    assert graphs(pyramid) == 1


def test_positional_options_are_refused():
    with pytest.raises(TypeError, match="by name"):
        build().compile("eager")


def test_without_a_compiler_it_runs_as_it_is_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    import torch._inductor.config as config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled, eager = build(compile=True), build()
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        for _ in range(2):
            assert_same_maps(compiled(images().fill_(0.5)), eager(images().fill_(0.5)), tolerance=0)
        build(compile=True)(images())
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    for words in ("Pyramid runs without torch.compile", "on cpu", "apt install g++", "leave out compile"):
        assert words in record.message
    assert graphs(compiled) == 0


def test_the_log_states_what_was_compiled_and_how_long_it_took(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "fpn_plugins")
    pyramid = build(compile=TRACED).train()
    for _ in range(2):
        sum(y.sum() for y in pyramid(images())).backward()
    forward, backward = [record.message for record in caplog.records if record.name == "fpn_plugins"]
    assert forward.startswith("Pyramid compiled for training at 2x3x64x96 in ") and forward.endswith("(graphs: 1)")
    assert backward.startswith("Pyramid took ") and "first backward pass" in backward


@pytest.mark.parametrize("inside", [True, False])
def test_autocast(inside: bool):
    options = {"autocast": "bfloat16"} if inside else {}
    compiled, eager = build(compile=TRACED, **options), build(**options)
    with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
        maps, expected = compiled(images().fill_(0.5)), eager(images().fill_(0.5))
    assert [y.dtype for y in maps] == [y.dtype for y in expected]
    assert maps[0].dtype == (torch.float32 if inside else torch.bfloat16)
    assert_same_maps([y.float() for y in maps], [y.float() for y in expected], tolerance=0.02)


@pytest.mark.parametrize("optimizer", ["ours", "pytorch's"])
def test_distributed_data_parallel_does_not_split_graphs(optimizer: str, monkeypatch: pytest.MonkeyPatch):
    parts = []

    def backend(graph: Any, _: Any) -> Any:
        parts.append(graph)
        return graph.forward

    pyramid = build(out_channels=256, compile={"backend": backend})
    if optimizer == "pytorch's":  # the control
        monkeypatch.setattr(compilation, "_whole_graphs", compilation.nullcontext)
    monkeypatch.setattr(DistributedDataParallel, "_active_ddp_module", SimpleNamespace(bucket_bytes_cap=2**20))
    with torch.no_grad():
        pyramid(images())
    assert (len(parts) == 1) == (optimizer == "ours")
