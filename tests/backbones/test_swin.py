"""Swin equals mmdet's and detectron2's at any size, through their state dicts; the fast path equals the plain one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from fpn_plugins import FeatureSpec, Swin
from fpn_plugins.backbones import window_attention, windows
from fpn_plugins.backbones.swin_sizes import MODELS
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.maps.swin import SwinLayouts

# heads of 8 channels; the last block but one of a stage shifts, so that every kind of block is there
TINY: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 3, 2), "num_heads": (2, 4, 8, 16)}
SIZES = [(31, 31), (112, 137), (256, 320)]
NAME = "swin_tiny_patch4_window7_224"


def scrambled(module: nn.Module) -> nn.Module:
    """Nothing stays zero or one, so that every parameter shows in the result."""
    for p in module.parameters():
        p.data.add_(torch.randn_like(p) * 0.2)
    module.eval()  # mmdet's returns nothing
    return module


def mmdets(window_size: int = 7, **arguments: Any) -> nn.Module:
    from mmdet.models import SwinTransformer

    names = {"embed_dims": TINY["embed_dim"], "depths": TINY["depths"], "num_heads": TINY["num_heads"]}
    return scrambled(SwinTransformer(**names, window_size=window_size, drop_path_rate=0.0, **arguments))


def detectron2s(window_size: int = 7, **arguments: Any) -> nn.Module:
    from detectron2.modeling.backbone import SwinTransformer

    return scrambled(SwinTransformer(**TINY, window_size=window_size, drop_path_rate=0.0, **arguments))


def ours(window_size: int = 7, **arguments: Any) -> Swin:
    return Swin(**{"name": NAME, "drop_path_rate": 0.0, **TINY, "window_size": window_size, **arguments}).eval()


PEERS = {
    "mmdet": pytest.param(mmdets, marks=pytest.mark.mmdet),
    "detectron2": pytest.param(detectron2s, marks=pytest.mark.detectron2),
}


def maps_of(peer: nn.Module, x: Tensor) -> list[Tensor]:
    maps = peer(x)
    return list(maps.values() if isinstance(maps, dict) else maps)


def assert_equal_maps(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        scale = max(1.0, b.detach().abs().max().item())
        assert_close(a / scale, b / scale, rtol=0, atol=tolerance)


def assert_equal_gradients(module: nn.Module, peer: nn.Module, to_ours: Any) -> None:
    """Gradients are carried over by the same table as the weights."""
    theirs, _ = to_ours.apply({key: p.grad for key, p in peer.named_parameters() if p.grad is not None})
    own = {key: p.grad for key, p in module.named_parameters()}
    assert set(own) == set(theirs)
    for key, grad in own.items():
        scale = max(1.0, theirs[key].abs().max().item())
        assert_close(grad / scale, theirs[key] / scale, rtol=0, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_outputs_and_gradients_equal_the_peers(peer: Callable[..., nn.Module]) -> None:
    theirs = peer()
    module = ours()
    module.load_state_dict(theirs.state_dict())
    table = getattr(SwinLayouts(), "mmdet" if peer is mmdets else "detectron2")()
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        assert all(m.is_contiguous() for m in module(x))
        results = []
        for net, run in ((module, module), (theirs, lambda image: maps_of(theirs, image))):
            net.zero_grad()
            image = x.clone().requires_grad_()
            maps = run(image)
            sum((m * torch.linspace(-1, 1, m.shape[-1])).square().mean() for m in maps).backward()
            results.append([*maps, image.grad])
        assert_equal_maps(*results)
        assert_equal_gradients(module, theirs, table)


@pytest.mark.mmdet
@settings(max_examples=8)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 5))
def test_equals_mmdet_at_any_size(height: int, width: int, window_size: int) -> None:
    theirs = mmdets(window_size)
    module = ours(window_size)
    module.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, height, width)
    with torch.no_grad():
        assert_equal_maps(module(x), maps_of(theirs, x))


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("arguments", "theirs"),
    [
        ({"out_indices": (1, 3)}, {"out_indices": (1, 3)}),
        ({"qkv_bias": False, "qk_scale": 0.3}, {"qkv_bias": False, "qk_scale": 0.3}),
        ({"patch_norm": False, "mlp_ratio": 2.0}, {"patch_norm": False, "mlp_ratio": 2}),
    ],
)
def test_arguments_mean_what_they_mean_to_mmdet(arguments: dict[str, Any], theirs: dict[str, Any]) -> None:
    peer, module = mmdets(4, **theirs), ours(4, **arguments)
    module.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 60, 75)
    with torch.no_grad():
        assert_equal_maps(module(x), maps_of(peer, x))


@pytest.mark.detectron2
def test_position_embeddings_equal_detectron2s_and_mmdets_load() -> None:
    peer = detectron2s(4, ape=True, pretrain_img_size=32)
    module = ours(4, use_abs_pos=True, pretrain_img_size=32)
    module.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 48, 75)
    with torch.no_grad():
        assert_equal_maps(module(x), maps_of(peer, x))
    theirs, _ = SwinLayouts().mmdet().inverse().apply(module.state_dict())
    assert theirs["absolute_pos_embed"].shape == (1, 64, 16)
    again = ours(4, use_abs_pos=True, pretrain_img_size=32)
    again.load_state_dict(theirs)
    assert again.absolute_pos_embed.equal(module.absolute_pos_embed)


# -------------------------------------------------------------------------------------------------------- fast path


@pytest.mark.parametrize("limit", [1, 2**20])
@pytest.mark.parametrize("shift", [0, 2])
def test_attention_in_portions_equals_the_plain_one(shift: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_attention, "SCORES_AT_ONCE", {"cpu": limit})
    heads = torch.randn(12, 16, 3, 2, 8, dtype=torch.double, requires_grad=True)
    kinds = windows.window_layout(2, 8, 12, 4, shift, heads.device).kinds
    table = torch.randn(2, 16, 16, dtype=torch.double, requires_grad=True)
    weight = torch.randn(12, 16, 2, 8, dtype=torch.double)
    results = []
    for attend in (window_attention._Attend.apply, window_attention.attend):
        biases = table[None] + (window_attention.shift_masks(4, shift)[:, None] if shift else 0)
        out = attend(heads, biases, kinds, 0.4)
        results.append([out, *torch.autograd.grad((out * weight).sum(), (heads, table))])
    assert_equal_maps(*results, tolerance=1e-12)


def test_masks_keep_tokens_of_opposite_edges_apart() -> None:
    """A column of a shifted map changes nothing beyond the windows that it is a neighbour in."""
    masks = window_attention.shift_masks(4, 2)
    assert masks[0].eq(0).all() and masks.shape == (4, 16, 16)
    apart = masks[1].view(4, 4, 4, 4) != 0  # query row, column, key row, column
    for row, column, other_row, other_column in itertools.product(range(4), repeat=4):
        assert apart[row, column, other_row, other_column] == ((column < 2) != (other_column < 2))
    assert torch.equal(masks[2].view(4, 4, 4, 4), masks[1].view(4, 4, 4, 4).permute(1, 0, 3, 2))
    assert torch.equal(masks[3] != 0, (masks[1] != 0) | (masks[2] != 0))


def cut(x: Tensor, size: int, shift: int) -> Tensor:
    """Filled up, shifted, and cut, step by step: rows of all windows' places."""
    batch, height, width, channels = x.shape
    x = nn.functional.pad(x, (0, 0, 0, -width % size, 0, -height % size)).roll((-shift, -shift), (1, 2))
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # B rows size columns size C
    return x.transpose(2, 3).reshape(-1, channels)


def join(rows: Tensor, shape: torch.Size, size: int, shift: int) -> Tensor:
    """What undoes `cut`."""
    batch, height, width, channels = shape
    down, across = -(-height // size), -(-width // size)
    x = rows.view(batch, down, across, size, size, channels).transpose(2, 3)
    x = x.reshape(batch, down * size, across * size, channels)
    return x.roll((shift, shift), (1, 2))[:, :height, :width]


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 11)])
def test_moving_by_index_is_cutting_and_joining(size: tuple[int, int], shift: int) -> None:
    x = torch.randn(2, *size, 3, dtype=torch.double, requires_grad=True)
    filling = torch.randn(1, 3, dtype=torch.double, requires_grad=True)
    layout = windows.window_layout(2, *size, 4, shift, x.device)
    moved = windows.into_windows(torch.cat([x.flatten(0, 2), filling]), layout)
    plain = cut(x - filling, 4, shift) + filling
    back = windows.out_of_windows(moved.square(), layout).view(x.shape)
    plain_back = join(plain.square(), x.shape, 4, shift)
    assert_equal_maps((moved, back), (plain, plain_back), tolerance=1e-12)
    assert back.equal(x.square())
    for ours, theirs in ((moved, plain), (back, plain_back)):
        weight = torch.randn_like(ours)
        leaves = (x, filling)
        gradients = [torch.autograd.grad((y * weight).sum(), leaves, retain_graph=True) for y in (ours, theirs)]
        assert_equal_maps(*gradients, tolerance=1e-12)


@pytest.mark.parametrize("arguments", [{}, {"gradient_checkpointing": True}])
def test_recomputation_and_stochastic_depth_give_the_gradients_of_the_plain_module(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = scrambled(ours(4, drop_path_rate=0.5, **arguments)).train()
    x = torch.randn(2, 3, 60, 75)
    gradients = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        module.zero_grad()
        torch.manual_seed(3)
        sum(m.square().mean() for m in module(x)).backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    assert_equal_maps(*gradients)


def test_gradient_checkpointing_keeps_less_and_attention_keeps_no_scores() -> None:
    def kept(module: Swin) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = module(torch.randn(1, 3, 112, 112))
        assert all(m.requires_grad for m in out)
        return sum(sizes.values())

    torch.manual_seed(0)
    plain = ours(7).train()
    assert kept(ours(7, gradient_checkpointing=True).train()) < 0.3 * kept(plain)


# ----------------------------------------------------------------------------------------------------------- weights


@pytest.mark.timm
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2)])
def test_timms_weights_load_and_give_timms_maps_where_windows_fit(out_indices: tuple[int, ...]) -> None:
    """On maps that are multiples of the window, timm's forward and the one for detection agree."""
    import timm

    arguments = {"window_size": 4, "img_size": 128, "always_partition": True}
    theirs = scrambled(timm.create_model(NAME, **TINY, **arguments))
    module = ours(4, out_indices=out_indices, output_norms=False)
    module.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = theirs.forward_intermediates(x, indices=list(out_indices), intermediates_only=True, norm=False)
        assert_equal_maps(module(x), expected)


def official(module: Swin) -> dict[str, Tensor]:
    """A classifier's file: our names, indices and masks, its own norm and head."""
    weights, _ = SwinLayouts().official().inverse().apply(module.state_dict())
    assert not any(key.startswith("norm") for key in weights)
    for stage, block in ((0, 0), (0, 1), (3, 1)):
        attention = f"layers.{stage}.blocks.{block}"
        weights[f"{attention}.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
        weights[f"{attention}.attn_mask"] = torch.zeros(4, 49, 49)
    classifier = {"norm.weight": 128, "norm.bias": 128, "head.weight": (10, 128), "head.bias": 10}
    return weights | {key: torch.zeros(shape) for key, shape in classifier.items()}


@pytest.mark.parametrize("arguments", [{}, {"output_norms": False}, {"out_indices": (0, 2)}])
def test_official_weights_load_and_output_norms_keep_their_own(arguments: dict[str, Any], tmp_path: Path) -> None:
    source = scrambled(ours())
    file = write_checkpoint(official(source), tmp_path / "swin.pth")
    module = ours(checkpoint=file, **arguments)
    for key, value in module.state_dict().items():
        if key.startswith("norm"):
            assert value.equal(torch.full_like(value, float(key.endswith("weight"))))
        else:
            assert value.equal(source.state_dict()[key]), key


@pytest.mark.parametrize("layout", ["detectron2", "official", "timm", "mmdet"])
def test_every_layout_comes_back_exactly(layout: str) -> None:
    table = getattr(SwinLayouts(), layout)()
    before = scrambled(ours(use_abs_pos=layout != "timm")).state_dict()
    theirs, there = table.inverse().apply(before)
    after, back = table.apply(theirs, before)
    assert not there.unexpected and back.complete
    assert set(after) == {key for key in before if key in there.matched}
    assert all(value.equal(before[key]) for key, value in after.items())
    lost = set(before) - set(after)
    assert lost == ({k for k in before if k.startswith("norm")} if layout in ("official", "timm") else set())


@pytest.mark.mmdet
def test_mmdets_layout_is_mmdets_conversion_of_an_official_file() -> None:
    from mmdet.models.backbones.swin import swin_converter

    weights = {key: value for key, value in official(scrambled(ours())).items() if not key.startswith("norm.")}
    theirs = {key.removeprefix("backbone."): value for key, value in swin_converter(weights).items()}
    after, _ = SwinLayouts().mmdet().apply(theirs)
    assert all(value.equal(weights[key]) for key, value in after.items())
    assert set(after) >= {"layers.0.downsample.reduction.weight", "layers.3.blocks.1.attn.qkv.bias"}


def test_tables_of_another_window_are_resized(caplog: pytest.LogCaptureFixture) -> None:
    source, module = scrambled(ours(7)), ours(4)
    module.load_state_dict(source.state_dict())
    table = source.layers[1].blocks[1].attn.relative_position_bias_table
    grid = table.detach().t().reshape(1, 4, 13, 13)
    expected = nn.functional.interpolate(grid, size=(7, 7), mode="bicubic").reshape(4, 49).t()
    assert module.layers[1].blocks[1].attn.relative_position_bias_table.equal(expected)
    assert module.layers[1].blocks[1].attn.qkv.weight.equal(source.layers[1].blocks[1].attn.qkv.weight)


def test_checkpoints_of_other_networks_are_refused(tmp_path: Path) -> None:
    weights = ours().state_dict()
    wider = write_checkpoint(ours(embed_dim=32).state_dict(), tmp_path / "wider.pth")
    with pytest.raises(ValueError, match=r"(?s)wider\.pth.*does not fit.*size mismatch.*more"):
        ours(checkpoint=wider)
    heads = write_checkpoint(ours(num_heads=(1, 2, 4, 8)).state_dict(), tmp_path / "heads.pth")
    with pytest.raises(ValueError, match="(?s)relative_position_bias_table"):
        ours(checkpoint=heads)
    deeper = write_checkpoint(official(ours(depths=(2, 2, 5, 2))), tmp_path / "deeper.pth")
    with pytest.raises(ValueError, match=r"layers\.2\.blocks\.3"):
        ours(checkpoint=deeper)
    whole = write_checkpoint({f"backbone.{key}": value for key, value in weights.items()}, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"fpn_plugins\.weights\.under"):
        ours(checkpoint=whole)
    with pytest.raises(ValueError, match="exclude each other"):
        ours(checkpoint=wider, pretrained=True)


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.timm
@pytest.mark.parametrize("name", sorted(MODELS))
def test_published_networks_are_timms(name: str) -> None:
    """Names, channels, depths, heads and windows, read from timm's own networks."""
    import timm

    with torch.device("meta"):
        theirs, module = timm.create_model(name), Swin(name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    renamed, report = SwinLayouts().timm().apply(shapes, module.state_dict())
    assert report.complete
    assert all(module.state_dict()[key].shape == shape for key, shape in renamed.items())
    assert module.layers[0].blocks[0].attn.window_size == theirs.layers[0].blocks[0].window_size[0]
    assert [blocks.blocks[0].attn.num_heads for blocks in module.layers] == [
        blocks.blocks[0].attn.num_heads for blocks in theirs.layers
    ]
    assert [spec.channels for spec in module.feature_specs] == [row["num_chs"] for row in theirs.feature_info]


def test_specs_names_and_pixels() -> None:
    module = ours(out_indices=(1, 2))
    assert module.feature_specs == (FeatureSpec(32, 8), FeatureSpec(64, 16))
    assert len(module.layers) == 3 and module.layers[2].downsample is None
    assert (module.pixel_mean, module.pixel_std) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert Swin(f"{NAME}.ms_in1k", **TINY).feature_specs[0].channels == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "swin_tiny_patch4_window8_224"}, "swin_tiny_patch4_window7_224"),
        ({"num_heads": (2, 4, 8, 5)}, r"num_heads=\[2, 4, 8, 5\] must divide .*\[16, 32, 64, 128\]"),
        ({"depths": (2, 2)}, r"depths=\[2, 2\]"),
        ({"window_size": 1}, "window_size=1"),
        ({"out_indices": (0, 4)}, "stride 32"),
        ({"out_indices": ()}, "ascending"),
        ({"out_indices": (2, 1)}, "ascending"),
        ({"frozen_stages": 3, "out_indices": (0, 1)}, "frozen_stages=3"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(**arguments)


@pytest.mark.mmdet
@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 4])
def test_frozen_stages_freeze_what_mmdets_do(frozen_stages: int) -> None:
    peer = mmdets(frozen_stages=frozen_stages)
    peer.train()
    module = ours(frozen_stages=frozen_stages, drop_path_rate=0.3).train()
    fixed = {key: torch.zeros(4) for key, p in peer.named_parameters() if not p.requires_grad}
    expected, _ = SwinLayouts().mmdet().apply({key: peer.state_dict()[key] for key in fixed})
    assert {key for key, p in module.named_parameters() if not p.requires_grad} == set(expected)
    assert [stage.training for stage in module.layers] == [stage >= frozen_stages for stage in range(4)]
    assert copy.deepcopy(module).train().layers[0].training == (frozen_stages < 1)
