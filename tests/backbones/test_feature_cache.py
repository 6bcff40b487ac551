"""Maps of a frozen backbone on disk: equal to computed ones, and found exactly where nothing has changed."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from registered import BACKBONE_HOSTS, BACKBONE_NAMES, VARIANTS, build
from torch import Tensor, nn
from versions import COMPILES, EXPORTS

from fpn_plugins import BACKBONES, MultiDepthViT, Pyramid, SpatialTuningAdapter, TimmBackbone, ViT
from fpn_plugins.backbones import add_feature_cache
from fpn_plugins.backbones.fingerprint import fingerprint

TINY: dict[str, Any] = {"img_size": 32, "embed_dim": 8, "depth": 2, "num_heads": 2, "global_block_indices": (1,)}
ROOM = 1e9
# classes with the argument; others have it in the backbone inside
WITH_ARGUMENT = [
    pytest.param(name, marks=BACKBONE_HOSTS.get(name, ()))
    for name, kind in sorted(BACKBONES.items())
    if "feature_cache" in inspect.signature(kind).parameters
]


def cached(folder: Path, max_bytes: float = ROOM, **arguments: Any) -> ViT:
    """Build equal frozen backbones with a cache in ``folder``."""
    torch.manual_seed(0)
    cache = {"folder": folder, "max_bytes": max_bytes}
    return ViT(**{**TINY, **arguments}, frozen_stages=2, feature_cache=cache)


def count(folder: Path) -> int:
    return len(list(folder.glob("*.safetensors")))


def refuse(*_: Any) -> Any:
    raise AssertionError("computed")


def without_network(backbone: Any) -> Any:
    """Let a backbone with a cache fail where it would compute."""
    backbone.feature_cache.compute = refuse
    return backbone


def assert_equal(got: Any, expected: Any) -> None:
    """The same values in the same memory format."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype and one.stride() == other.stride()


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_every_backbone_gives_equal_maps_with_and_without(name: str, tmp_path: Path) -> None:
    """One image at a time, in both memory formats: computed by the plain backbone, with an empty and a full cache."""
    backbone = build(name).requires_grad_(False)
    images = [torch.randn(1, 3, 65, 97), torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)]
    expected = [backbone(x) for x in images]
    before = fingerprint(backbone)
    add_feature_cache(backbone, tmp_path, ROOM)
    for again in (backbone, without_network(copy.deepcopy(backbone))):
        if again is not backbone:
            assert_equal(backbone(images[0]), expected[0])
        for x, maps in zip(images, expected, strict=True):
            assert_equal(again(x), maps)
    assert count(tmp_path) == 2
    assert fingerprint(backbone) == before  # neither a forward nor the cache itself is a part of the key


@pytest.mark.parametrize("name", WITH_ARGUMENT)
def test_the_argument_adds_the_cache(name: str, tmp_path: Path) -> None:
    backbone = build(name)
    stages = len(backbone.stage_parts()) - 1
    backbone = build(name, frozen_stages=stages, feature_cache={"folder": str(tmp_path), "max_bytes": ROOM})
    x = torch.randn(2, 3, 64, 64)
    maps = backbone.train()(x)
    assert_equal(without_network(backbone)(x), maps)
    assert not any(m.requires_grad for m in maps) and count(tmp_path) == 2


def test_a_batch_equals_its_images_and_any_other_batch_of_them(tmp_path: Path) -> None:
    x = torch.randn(3, 3, 48, 64)
    (plain,) = zip(*(cached(tmp_path / "none", 0)(image) for image in x.split(1)), strict=True)
    assert not (tmp_path / "none").exists()
    backbone = cached(tmp_path)
    assert_equal(backbone(x[1:]), [torch.cat(plain[1:])])
    assert_equal(backbone(x), [torch.cat(plain)])
    assert_equal(without_network(backbone)(x.flip(0)), [torch.cat(plain[::-1])])


def changes() -> dict[str, Callable[[ViT], Any]]:
    """Changes of a network, each of which changes its maps."""
    with_data = torch.full((8,), 0.5)
    return {
        "in place": lambda vit: vit.blocks[0].norm1.weight.add_(0.1),
        "loaded": lambda vit: vit.load_state_dict({k: v + 0.1 for k, v in vit.state_dict().items()}),
        "exchanged module": lambda vit: setattr(vit.blocks[1], "norm1", nn.Identity().eval()),
        "attribute": lambda vit: setattr(vit.blocks[1].norm1, "eps", 0.1),
        "replaced forward": lambda vit: setattr(vit.blocks[1].mlp, "forward", torch.zeros_like),
        ".data, then a mode": lambda vit: (vit.blocks[1].norm2.weight.data.copy_(with_data), vit.eval()),
        ".data, then told": lambda vit: (vit.blocks[1].norm2.weight.data.mul_(3), vit.feature_cache.forget()),
        "double precision": lambda vit: vit.double(),
    }


@pytest.mark.parametrize("change", changes())
def test_another_network_is_another_key(change: str, tmp_path: Path) -> None:
    vit, x = cached(tmp_path), torch.randn(1, 3, 32, 48)
    (before,) = vit(x)
    with torch.no_grad():
        changes()[change](vit)
    x = x.to(next(vit.parameters()).dtype)
    (after,) = vit(x)
    (expected,) = vit.feature_cache.compute(x)
    assert torch.equal(after, expected) and not torch.equal(after, before) and count(tmp_path) == 2


@pytest.mark.parametrize(
    "arguments", [{"window_size": 2}, {"global_block_indices": (0, 1)}, {"num_heads": 4}, {"norm_eps": 0.1}], ids=str
)
def test_another_setting_is_another_key(arguments: dict[str, Any], tmp_path: Path) -> None:
    """The parameters are the same."""
    x = torch.randn(1, 3, 64, 64)
    cached(tmp_path)(x), cached(tmp_path, **arguments)(x)
    assert count(tmp_path) == 2


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


SETTINGS: dict[str, tuple[Any, Any]] = {
    "function of C": (torch.tanh, torch.sigmoid),
    "functions of one line": tuple(function for function in (lambda x: x * 2, lambda x: x * 3)),
    "closure": (scaled(2), scaled(3)),
    "array": (np.zeros(2), np.ones(2)),
    "fraction": (Fraction(1, 2), Fraction(1, 3)),
    "namespace": (SimpleNamespace(scale=2), SimpleNamespace(scale=3)),
    "method": (scaled(2).__call__, scaled(3).__call__),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_of_any_kind_are_told_apart(kind: str) -> None:
    """Equal networks with another value of an attribute have other fingerprints."""
    network = nn.Identity()
    found = []
    for network.setting in (*SETTINGS[kind], copy.deepcopy(SETTINGS[kind][0])):
        found.append(fingerprint(network))
    assert found[0] == found[2] != found[1]


def test_a_recursive_function_and_a_lock_have_a_fingerprint() -> None:
    def again(x: Tensor) -> Tensor:
        return again(x)

    network = nn.Identity()
    network.setting = (again, threading.Lock())
    assert fingerprint(network) == fingerprint(network)


def test_maps_that_are_no_longer_read_are_not_kept_for_others(tmp_path: Path) -> None:
    """The neck of a later `Pyramid` reads one of two maps; the other is zero for it, and for nobody else."""
    arguments = {"out_block_indices": (0, 1)}
    backbone, x = cached(tmp_path, **arguments), torch.randn(1, 3, 32, 48)
    backbone(x)
    Pyramid(backbone, out_positions=[1])(x + 1)
    first, _ = cached(tmp_path, **arguments)(x + 1)
    assert first.any()


def test_precision_pixels_and_mode_are_part_of_the_key(tmp_path: Path) -> None:
    vit, x = cached(tmp_path), torch.randn(1, 3, 48, 64)
    vit(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(vit(x), vit.feature_cache.compute(x))
    assert count(tmp_path) == 2
    with torch.no_grad():
        vit(x)
    for other in (x + 1e-6, x.reshape(1, 3, 64, 48), x[..., :32]):
        assert_equal(vit(other), vit.feature_cache.compute(other))
    assert count(tmp_path) == 6
    vit(x.clone()), cached(tmp_path)(x), pickle.loads(pickle.dumps(vit))(x)
    assert count(tmp_path) == 6


def run_each(names: list[str], folder: Path) -> None:
    """Build each backbone with the same weights, and compute the same image with a cache."""
    for name in names:
        torch.manual_seed(0)
        backbone = build(name).requires_grad_(False)
        add_feature_cache(backbone, folder, ROOM)
        backbone(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))


@pytest.mark.timm
def test_another_process_finds_the_files(tmp_path: Path) -> None:
    """Whatever the order of sets is in it."""
    names = sorted([*BACKBONES, *VARIANTS])
    run_each(names, tmp_path)
    assert count(tmp_path) == len(names)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": path}
    code = f"import pathlib, test_feature_cache as t; t.run_each({names}, pathlib.Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert count(tmp_path) == len(names)


def test_a_backbone_that_trains_is_refused(tmp_path: Path) -> None:
    cache = {"folder": tmp_path, "max_bytes": ROOM}
    with pytest.raises(ValueError, match=r"'blocks.1.norm1.weight' of ViT trains.*freeze the whole backbone"):
        ViT(**TINY, frozen_stages=1, feature_cache=cache)
    vit = cached(tmp_path)
    vit.blocks[1].train()
    with pytest.raises(ValueError, match=r"module 'blocks.1' of ViT is in training mode"):
        vit(torch.randn(1, 3, 32, 32))
    vit.train()
    vit(torch.randn(1, 3, 32, 32))
    vit.pos_embed.requires_grad_()
    with pytest.raises(ValueError, match="'pos_embed' of ViT trains"):
        vit(torch.randn(1, 3, 32, 32))


@pytest.mark.peft
@pytest.mark.timm
def test_adapters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of ViT trains"):
        ViT(**TINY, lora={"rank": 2}, feature_cache={"folder": tmp_path, "max_bytes": ROOM})


@pytest.mark.parametrize(
    ("cache", "error", "message"),
    [
        ("maps", TypeError, "feature_cache='maps' must be a mapping"),
        ({"folder": "maps"}, TypeError, "lacks 'max_bytes'; it takes folder and max_bytes"),
        ({"folder": "maps", "max_byte": 1}, TypeError, r"has no 'max_byte' \(near: max_bytes"),
        ({"folder": "maps", "max_bytes": -1}, ValueError, "max_bytes=-1 must be at least 0"),
        ({"folder": None, "max_bytes": 1}, TypeError, "folder=None must be the path"),
    ],
)
def test_wrong_arguments_are_named(cache: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ViT(**TINY, frozen_stages=2, feature_cache=cache)
    with pytest.raises(TypeError, match="backbone=Conv2d must be a backbone"):
        add_feature_cache(nn.Conv2d(3, 4, 1), "maps", 1)


def test_batch_norms_and_stochastic_depth_stay_off(tmp_path: Path) -> None:
    vit = cached(tmp_path, drop_path_rate=0.9).train()
    assert not any(module.training for module in vit.modules())
    x = torch.randn(1, 3, 32, 32)
    assert_equal(vit(x), vit.feature_cache.compute(x))


def test_hooks_gradients_of_pixels_and_meta_tensors_are_computed(tmp_path: Path) -> None:
    vit, x = cached(tmp_path), torch.randn(1, 3, 32, 32)
    vit(x)
    seen: list[Tensor] = []
    hook = vit.blocks[1].register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    vit(x)
    hook.remove()
    assert len(seen) == 1
    x.requires_grad_()
    vit(x)[0].square().mean().backward()
    assert x.grad.any()
    assert copy.deepcopy(vit).to("meta")(x.detach().to("meta"))[0].is_meta
    assert count(tmp_path) == 1


def test_maps_that_no_neck_reads_take_no_room(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cache = {"folder": tmp_path, "max_bytes": ROOM}
    vit = {"type": "ViT", **TINY, "out_block_indices": (0, 1), "frozen_stages": 2, "feature_cache": cache}
    pyramid = Pyramid(vit, out_positions=(1,))
    x = torch.randn(2, 3, 320, 320)
    maps = pyramid(x)
    assert_equal(pyramid(x), maps)
    assert all(file.stat().st_size < 8 * 400 * 4 * 1.5 for file in tmp_path.glob("*.safetensors"))
    first, second = pyramid.backbone(x)
    assert first.shape == second.shape and not first.any()


def test_the_vit_inside_another_backbone_has_a_cache(tmp_path: Path) -> None:
    cache = {"folder": tmp_path, "max_bytes": ROOM}
    vit = {**TINY, "frozen_stages": 2, "feature_cache": cache}
    x = torch.randn(1, 3, 64, 64)
    deep = MultiDepthViT(vit, depths=(1, 2), strides=(8, 16)).train()
    tuned = SpatialTuningAdapter({"type": "ViT", **vit}, norm="LN").train()
    for backbone, inner in ((deep, deep.vit), (tuned, tuned.vit)):
        maps = backbone(x)
        without_network(inner)
        assert_equal(backbone(x), maps)
        sum(m.square().mean() for m in maps).backward()
    assert count(tmp_path) == 2


@COMPILES
def test_torch_compile_leaves_the_backbone_outside(tmp_path: Path) -> None:
    torch._dynamo.reset()
    vit, x = cached(tmp_path), torch.randn(1, 3, 32, 48)
    pyramid = Pyramid(vit, {"type": "SimpleFeaturePyramid", "out_channels": 4, "scale_factors": (1, 0.5)})
    expected = pyramid(x)
    without_network(vit)
    for got, other in zip(torch.compile(pyramid, backend="aot_eager")(x), expected, strict=True):
        torch.testing.assert_close(got, other)
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"(?s)look_up|disable"):
        torch.compile(pyramid, backend="aot_eager", fullgraph=True)(x)


@pytest.mark.timm
@EXPORTS
def test_recorded_graphs_hold_the_network(tmp_path: Path) -> None:
    vit, x = cached(tmp_path), torch.randn(1, 3, 32, 48)
    expected = vit.feature_cache.compute(x)
    exported = torch.export.export(vit, (x,)).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks whose results a trace keeps
        traced = torch.jit.trace(vit, x, check_trace=False)
    for got in (exported(x), traced(x)):
        torch.testing.assert_close(got[0], expected[0])
    resnet = TimmBackbone("resnet10t", frozen_stages=4, feature_cache={"folder": tmp_path, "max_bytes": ROOM})
    scripted, image = torch.jit.script(resnet), torch.randn(1, 3, 64, 64)
    for got, other in zip(scripted(image), resnet.feature_cache.compute(image), strict=True):
        torch.testing.assert_close(got, other)
    assert not list(tmp_path.iterdir())
