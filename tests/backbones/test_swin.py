"""Swin matches mmdet and detectron2 at any size, through their state dicts."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, Swin
from fpn_plugins.backbones.swin.swin import MODELS
from fpn_plugins.backbones.swin.window_attention import window_layout
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.maps import swin as tables

# heads of 8 channels; stages of 2 and 3 blocks, so that shifted and unshifted blocks end a stage
TINY: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 3, 2), "num_heads": (2, 4, 8, 16)}
SIZES = [(31, 31), (112, 137), (256, 320)]
NAME = "swin_tiny_patch4_window7_224"


def scrambled(module: nn.Module) -> nn.Module:
    """Perturb all parameters, so that each one changes the output."""
    for p in module.parameters():
        p.data.add_(torch.randn_like(p) * 0.2)
    module.eval()  # mmdet's returns nothing
    return module


def mmdet_peer(window_size: int = 7, **arguments: Any) -> nn.Module:
    from mmdet.models import SwinTransformer

    names = {"embed_dims": TINY["embed_dim"], "depths": TINY["depths"], "num_heads": TINY["num_heads"]}
    return scrambled(SwinTransformer(**names, window_size=window_size, drop_path_rate=0.0, **arguments)).double()


def detectron2_peer(window_size: int = 7, **arguments: Any) -> nn.Module:
    from detectron2.modeling.backbone import SwinTransformer

    return scrambled(SwinTransformer(**TINY, window_size=window_size, drop_path_rate=0.0, **arguments)).double()


def ours(window_size: int = 7, **arguments: Any) -> Swin:
    return Swin(**{"name": NAME, "drop_path_rate": 0.0, **TINY, "window_size": window_size, **arguments}).eval()


PEERS = {
    "mmdet": pytest.param(mmdet_peer, marks=pytest.mark.mmdet),
    "detectron2": pytest.param(detectron2_peer, marks=pytest.mark.detectron2),
}


def maps_of(peer: nn.Module, x: Tensor) -> list[Tensor]:
    maps = peer(x)
    return list(maps.values() if isinstance(maps, dict) else maps)


def assert_equal_gradients(module: nn.Module, peer: nn.Module, to_ours: Any) -> None:
    """Compare gradients, renamed by the same table as the weights."""
    theirs, _ = to_ours.apply({key: p.grad for key, p in peer.named_parameters() if p.grad is not None})
    assert_same_gradients({key: p.grad for key, p in module.named_parameters()}, theirs)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_outputs_and_gradients_match_the_peers(peer: Callable[..., nn.Module]) -> None:
    theirs = peer()
    module = ours().double()
    module.load_state_dict(theirs.state_dict())
    table = getattr(tables, "mmdet" if peer is mmdet_peer else "detectron2")()
    for size in SIZES:
        x = torch.randn(2, 3, *size, dtype=torch.double)
        assert all(m.is_contiguous() for m in module(x))
        results = []
        for net, run in ((module, module), (theirs, lambda image: maps_of(theirs, image))):
            net.zero_grad()
            image = x.clone().requires_grad_()
            maps = run(image)
            sum((m * torch.linspace(-1, 1, m.shape[-1])).square().mean() for m in maps).backward()
            results.append([*maps, image.grad])
        assert_same_maps(*results)
        assert_equal_gradients(module, theirs, table)


@pytest.mark.mmdet
@settings(max_examples=8)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 5))
def test_matches_mmdet_at_any_size(height: int, width: int, window_size: int) -> None:
    theirs = mmdet_peer(window_size)
    module = ours(window_size).double()
    module.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, height, width, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(module(x), maps_of(theirs, x))


@pytest.mark.mmdet
@pytest.mark.parametrize(
    ("arguments", "theirs"),
    [
        ({"out_indices": (1, 3)}, {"out_indices": (1, 3)}),
        ({"qkv_bias": False, "qk_scale": 0.3}, {"qkv_bias": False, "qk_scale": 0.3}),
        ({"patch_norm": False, "mlp_ratio": 2.0}, {"patch_norm": False, "mlp_ratio": 2}),
    ],
)
def test_arguments_mean_the_same_as_in_mmdet(arguments: dict[str, Any], theirs: dict[str, Any]) -> None:
    peer, module = mmdet_peer(4, **theirs), ours(4, **arguments).double()
    module.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 60, 75, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(module(x), maps_of(peer, x))


@pytest.mark.detectron2
def test_a_patch_embedding_without_norm_matches_detectron2() -> None:
    """Its merging layers keep theirs, unlike mmdet's."""
    peer, module = detectron2_peer(4, patch_norm=False), ours(4, patch_norm=False, merging_norm=True).double()
    module.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 60, 75, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(module(x), maps_of(peer, x))
    with pytest.raises(ValueError, match="of Detectron2 or the official code, also set merging_norm=True"):
        ours(4, patch_norm=False).load_weights(peer.state_dict())


@pytest.mark.detectron2
def test_position_embeddings_match_detectron2_and_load_from_mmdet() -> None:
    peer = detectron2_peer(4, ape=True, pretrain_img_size=32)
    module = ours(4, use_abs_pos=True, pretrain_img_size=32).double()
    module.load_state_dict(peer.state_dict())
    x = torch.randn(1, 3, 48, 75, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(module(x), maps_of(peer, x))
    theirs, _ = tables.mmdet().inverse().apply(module.state_dict())
    assert theirs["absolute_pos_embed"].shape == (1, 64, 16)
    again = ours(4, use_abs_pos=True, pretrain_img_size=32).double()
    again.load_state_dict(theirs)
    assert again.absolute_pos_embed.equal(module.absolute_pos_embed)


# ---------------------------------------------------------------------------------------------------------- windows


def test_masks_keep_tokens_of_opposite_edges_apart() -> None:
    """Tokens that were no neighbors before the shift are masked."""
    masks = window_layout(1, 8, 12, 4, 2, torch.device("cpu")).masks.view(2, 3, 4, 4, 4, 4)
    assert masks[0, :2].eq(0).all()
    right, below, corner = masks[0, 2] != 0, masks[1, :2] != 0, masks[1, 2] != 0
    for row, column, other_row, other_column in itertools.product(range(4), repeat=4):
        assert right[row, column, other_row, other_column] == ((column < 2) != (other_column < 2))
        assert below[:, row, column, other_row, other_column].eq((row < 2) != (other_row < 2)).all()
    assert torch.equal(corner, right | below[0])


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 11)])
def test_a_layout_moves_tokens_as_padding_shifting_and_cutting_does(size: tuple[int, int], shift: int) -> None:
    height, width = size
    layout = window_layout(2, height, width, 4, shift, torch.device("cpu"))
    x = torch.randn(2, height, width, 3)
    padding = 9.0
    moved = F.pad(x.flatten(0, 2), (0, 0, 1, 0), value=padding)[layout.tokens]
    padded = F.pad(x, (0, 0, 0, -width % 4, 0, -height % 4), value=padding).roll((-shift, -shift), (1, 2))
    cut = padded.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).transpose(2, 3)  # B rows columns 4 4 C
    assert torch.equal(moved.flatten(), cut.flatten())
    assert torch.equal(moved[layout.places], x.flatten(0, 2))
    assert (layout.masks is None) == (shift == 0) and (shift == 0 or len(layout.masks) == cut[..., 0, 0, 0].numel())


def test_stochastic_depth_and_gradient_checkpointing_give_the_gradients_of_the_plain_module() -> None:
    plain = scrambled(ours(4, drop_path_rate=0.5)).double().train()
    saving = ours(4, drop_path_rate=0.5, gradient_checkpointing=True).double().train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 60, 75, dtype=torch.double)
    gradients = []
    for module in (plain, saving):
        torch.manual_seed(3)
        sum(m.square().mean() for m in module(x)).backward()
        gradients.append([p.grad for p in module.parameters()])
    assert_same_maps(*gradients)


def test_gradient_checkpointing_keeps_less() -> None:
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

    assert kept(ours(7, gradient_checkpointing=True).train()) < 0.3 * kept(ours(7).train())


# ----------------------------------------------------------------------------------------------------------- weights


@pytest.mark.timm
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2)])
def test_timm_weights_load_and_give_the_maps_of_timm_if_windows_fit(out_indices: tuple[int, ...]) -> None:
    """On maps that are multiples of the window, timm's forward and the one for detection agree."""
    import timm

    arguments = {"window_size": 4, "img_size": 128, "always_partition": True}
    theirs = scrambled(timm.create_model(NAME, **TINY, **arguments)).double()
    module = ours(4, out_indices=out_indices, output_norms=False).double()
    module.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 128, 128, dtype=torch.double)
    with torch.no_grad():
        expected = theirs.forward_intermediates(x, indices=list(out_indices), intermediates_only=True, norm=False)
        assert_same_maps(module(x), expected)


def official(module: Swin) -> dict[str, Tensor]:
    """A classifier's file: our names, indices and masks, its own norm and head."""
    weights, _ = tables.official().inverse().apply(module.state_dict())
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
    table = getattr(tables, layout)()
    before = scrambled(ours(use_abs_pos=layout != "timm")).state_dict()
    theirs, there = table.inverse().apply(before)
    after, back = table.apply(theirs, before)
    assert not there.unexpected and back.complete
    assert set(after) == {key for key in before if key in there.matched}
    assert all(value.equal(before[key]) for key, value in after.items())
    lost = set(before) - set(after)
    assert lost == ({k for k in before if k.startswith("norm")} if layout in ("official", "timm") else set())


@pytest.mark.mmdet
def test_mmdet_layout_matches_the_mmdet_conversion_of_an_official_file() -> None:
    from mmdet.models.backbones.swin import swin_converter

    weights = {key: value for key, value in official(scrambled(ours())).items() if not key.startswith("norm.")}
    theirs = {key.removeprefix("backbone."): value for key, value in swin_converter(weights).items()}
    after, _ = tables.mmdet().apply(theirs)
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
    with pytest.raises(ValueError, match=r"fpn_plugins\.weights\.strip_prefix"):
        ours(checkpoint=whole)
    with pytest.raises(ValueError, match="are mutually exclusive"):
        ours(checkpoint=wider, pretrained=True)


@pytest.mark.parametrize("as_file", [False, True])
def test_weights_that_do_not_fit_change_nothing(as_file: bool, tmp_path: Path) -> None:
    module, other = scrambled(ours()), scrambled(ours(depths=(2, 2, 5, 2), num_heads=(1, 2, 4, 8)))
    before = copy.deepcopy(module.state_dict())
    weights = write_checkpoint(other.state_dict(), tmp_path / "other.pth") if as_file else other.state_dict()
    with pytest.raises(
        ValueError, match=r"other\.pth. does not fit" if as_file else "of the given state dict does not"
    ):
        module.load_weights(weights)
    assert all(value.equal(before[key]) for key, value in module.state_dict().items())


# --------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.timm
@pytest.mark.parametrize("name", sorted(MODELS))
def test_published_networks_match_timm(name: str) -> None:
    """Names, channels, depths, heads and windows, read from timm's own networks."""
    import timm

    with torch.device("meta"):
        theirs, module = timm.create_model(name), Swin(name)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    renamed, report = tables.timm().apply(shapes, module.state_dict())
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
        ({"num_heads": (2, 4, 8, 5)}, "num_heads=5 must divide the 128 channels"),
        ({"depths": (2, 2)}, r"depths=\[2, 2\]"),
        ({"window_size": 1}, "window_size=1"),
        ({"out_indices": (0, 4)}, "stride 32"),
        ({"out_indices": ()}, "ascending"),
        ({"out_indices": (2, 1)}, "ascending"),
        ({"frozen_stages": 3, "out_indices": (0, 1)}, "frozen_stages=3"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"mlp_ratio": 0.01}, "mlp_ratio=0.01 leaves no hidden channel of 16; use at least 0.0625"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours(**arguments)


@pytest.mark.mmdet
@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 4])
def test_frozen_stages_match_mmdet(frozen_stages: int) -> None:
    peer = mmdet_peer(frozen_stages=frozen_stages)
    peer.train()
    module = ours(frozen_stages=frozen_stages, drop_path_rate=0.3).train()
    fixed = {key: torch.zeros(4) for key, p in peer.named_parameters() if not p.requires_grad}
    expected, _ = tables.mmdet().apply({key: peer.state_dict()[key] for key in fixed})
    assert {key for key, p in module.named_parameters() if not p.requires_grad} == set(expected)
    assert [stage.training for stage in module.layers] == [stage >= frozen_stages for stage in range(4)]
    assert copy.deepcopy(module).train().layers[0].training == (frozen_stages < 1)
