"""Named `ViT`s with windows: against a plain definition, which masks the scores of all pairs of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from precision import assert_same_gradients, assert_same_maps
from random_weights import nothing_trivial
from torch import Tensor

from fpn_plugins import ViT

pytestmark = pytest.mark.timm

# three blocks, of which the second is global
SMALL: dict[str, Any] = {"depth": 3, "embed_dim": 24, "num_heads": 2, "window_size": 3, "global_block_indices": (1,)}
CHOICES = [
    ("vit_small_plus_patch16_dinov3_qkvb", "global", "map"),
    ("vit_small_plus_patch16_dinov3_qkvb", "copy", "map"),
    ("vit_small_plus_patch16_dinov3_qkvb", "drop", "window"),
    ("vit_small_patch14_reg4_dinov2", "copy", "map"),
    ("eva02_base_patch14_224", "drop", "window"),
    ("eva02_base_patch14_224", "global", "window"),
    ("vit_pe_spatial_tiny_patch16_512", "global", "map"),
    ("vit_base_patch16_siglip_256", "global", "map"),
]


def build(name: str, choice: str, positions: str, **arguments: Any) -> ViT:
    chosen: dict[str, Any] = {"prefix_tokens_in_windows": choice, "window_positions": positions}
    chosen["antialias_positions"] = positions == "map"
    return nothing_trivial(ViT(name=name, **{**SMALL, **chosen, **arguments})).double()


def places(net: ViT, height: int, width: int, choice: str) -> list[tuple[int, int] | None]:
    """List the window of each token of an image, and ``None`` for tokens that see, and are seen by, every window."""
    size = net.layout.window_size
    cells = [(y // size, x // size) for y in range(height) for x in range(width)]
    prefix = 0 if net.cls_token is None else 1
    prefix += 0 if net.reg_token is None else net.reg_token.shape[1]
    sets = sorted(set(cells)) if choice == "copy" else [None]
    return [*(window for window in sets for _ in range(prefix)), *cells]


def rotated(net: ViT, x: Tensor, cells: int, grid: tuple[int, int], window: int) -> Tensor:
    """Multiply pairs of channels as complex numbers, by a table of one window that is looked up cell by cell."""
    rotary = net.design.rotary
    if rotary is None:
        return x
    height, width = (window, window) if window else grid
    table = rotary.angles(height, width, x.shape[-1], 0, x.device).unflatten(0, (height, width))
    angles = torch.stack([table[y % height, u % width] for y in range(grid[0]) for u in range(grid[1])])
    first, second = x.chunk(2, -1) if rotary.halves else (x[..., ::2], x[..., 1::2])
    turns = torch.complex(angles.cos().double(), angles.sin().double())
    turned = torch.complex(first[..., -cells:, :], second[..., -cells:, :]) * turns
    parts = (turned.real, turned.imag)
    turned = torch.cat(parts, -1) if rotary.halves else torch.stack(parts, -1).flatten(-2)
    return torch.cat([x[..., :-cells, :], turned], -2)


def plain_attention(net: ViT, attn: Any, x: Tensor, grid: tuple[int, int], windows: list[Any], window: int) -> Tensor:
    """Attend with all scores of the tokens ``N C`` in memory."""
    weight = attn.qkv.weight
    zeros = torch.zeros(weight.shape[1], dtype=x.dtype)
    bias = attn.qkv.bias if attn.q_bias is None else torch.cat([attn.q_bias, zeros, attn.v_bias])
    q, k, v = torch.nn.functional.linear(x, weight, bias).view(len(x), 3, attn.num_heads, -1).permute(1, 2, 0, 3)
    q, k = (rotated(net, t, grid[0] * grid[1], grid, window) for t in (attn.q_norm(q), attn.k_norm(k)))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    seen = torch.tensor([[a is None or b is None or a == b for b in windows] for a in windows])
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return attn.proj(attn.norm((weights @ v).transpose(0, 1).flatten(1)))


def plain_forward(net: ViT, image: Tensor, choice: str, positions: str) -> Tensor:
    """Compute the last map of one image, ``C H W``."""
    cells = net.patch_embed(image[None])[0]
    grid = tuple(cells.shape[:2])
    whole = [tokens[0] for tokens in (net.cls_token, net.reg_token) if tokens is not None]
    prefix = torch.cat(whole) if whole else cells.new_zeros(0, cells.shape[-1])
    if net.pos_embed is not None:
        rows, side = net.design.position_rows, net.design.pretrain_img_size // net.patch_size
        antialias = net.design.antialias_positions
        table = net.pos_embed[0, rows:].view(1, side, side, -1).permute(0, 3, 1, 2)
        if net.design.tile_positions:
            table = table.tile(1, 1, *grid)[..., : grid[0], : grid[1]]
        else:
            table = torch.nn.functional.interpolate(
                table.float() if antialias else table, size=grid, mode="bicubic", antialias=antialias
            )
        cells = cells + table[0].permute(1, 2, 0).double()
        prefix = prefix + net.pos_embed[0, :rows] if len(prefix) and rows else prefix
    windows = places(net, *grid, choice)
    sets = len({window for window in windows if window is not None}) if choice == "copy" else 1
    x = net.norm_pre(torch.cat([prefix] * sets + [cells.flatten(0, 1)]))
    for index, block in enumerate(net.blocks):
        windowed = index not in SMALL["global_block_indices"]
        visible = windows if windowed else [None] * len(windows)
        window = net.layout.window_size if windowed and positions == "window" else 0
        x = x + block.ls1(plain_attention(net, block.attn, block.norm1(x), grid, visible, window))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return net.norm(x[-grid[0] * grid[1] :]).view(*grid, -1).permute(2, 0, 1)


def assert_as_defined(net: ViT, images: Tensor, choice: str, positions: str) -> None:
    named = dict(net.named_parameters())
    results = []
    for m in (net(images)[0], torch.stack([plain_forward(net, image, choice, positions) for image in images])):
        weighting = torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view(m.shape)
        gradients = torch.autograd.grad((m * weighting).sum(), list(named.values()))
        results.append((m, dict(zip(named, gradients, strict=True))))
    (got, gradients), (expected, their_gradients) = results
    assert_same_maps(got, expected)
    if "pos_embed" in named:  # resized in single precision, as in timm
        table, wanted = gradients.pop("pos_embed"), their_gradients.pop("pos_embed")
        assert_same_maps(table, wanted, tolerance=1e-5)
    assert_same_gradients(gradients, their_gradients)


@pytest.mark.parametrize("grid", [(6, 3), (5, 7), (2, 4)])
@pytest.mark.parametrize(("name", "choice", "positions"), CHOICES)
def test_maps_and_gradients_are_those_of_the_definition(name: str, choice: str, positions: str, grid: tuple[int, int]):
    """Whole windows, windows that end outside the map, and a map that is smaller than a window."""
    net = build(name, choice, positions)
    assert_as_defined(net, torch.randn(2, 3, *(side * net.patch_size for side in grid)).double(), choice, positions)


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    size=st.integers(1, 4),
    choice=st.sampled_from(["global", "copy"]),
)
def test_any_map_and_window(height: int, width: int, size: int, choice: str):
    net = build("vit_tiny_patch16_dinov3_qkvb", choice, "map", window_size=size)
    assert_as_defined(net, torch.randn(1, 3, 16 * height, 16 * width).double(), choice, "map")


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (2, 1)])
@pytest.mark.parametrize("name", ["vit_pe_spatial_gigantic_patch14_448", "vit_pe_core_gigantic_patch14_448"])
def test_positions_of_the_detectors_of_the_perception_encoder(name: str, grid: tuple[int, int]):
    """The table of one window repeated for each, and no final norm."""
    published: dict[str, Any] = {"patch_size": 16, "pretrain_img_size": 48, "tile_positions": True, "final_norm": False}
    net = build(name, "drop", "window", **published)
    assert isinstance(net.norm, torch.nn.Identity)
    assert_as_defined(net, torch.randn(2, 3, *(16 * side for side in grid)).double(), "drop", "window")
    with_norm = build(name, "drop", "window", **{**published, "final_norm": True})
    net.load_weights(with_norm.state_dict())
    assert torch.equal(net.blocks[2].mlp.fc2.weight, with_norm.blocks[2].mlp.fc2.weight)


def test_a_single_window_is_global_attention():
    one = build("vit_small_patch16_dinov3", "global", "map", window_size=9)
    whole = ViT(name="vit_small_patch16_dinov3", **{**SMALL, "window_size": 0}).double()
    whole.load_state_dict(one.state_dict())
    x = torch.randn(1, 3, 64, 96).double()
    assert_same_maps(one(x), whole(x))


def test_dropped_tokens_are_no_parameters_and_their_weights_are_left_out():
    whole = build("vit_small_patch14_reg4_dinov2", "global", "map")
    net = build("vit_small_patch14_reg4_dinov2", "drop", "map")
    assert net.cls_token is None and net.reg_token is None
    net.load_weights(whole.state_dict())
    assert torch.equal(net.blocks[0].mlp.fc1.weight, whole.blocks[0].mlp.fc1.weight)
    everywhere_global = ViT(
        name="vit_small_patch14_reg4_dinov2", **{**SMALL, "window_size": 0}, prefix_tokens_in_windows="drop"
    )
    assert everywhere_global.cls_token is not None


@pytest.mark.parametrize("choice", ["prefix_tokens_in_windows", "window_positions"])
def test_unknown_choices_are_errors(choice: str):
    with pytest.raises(ValueError, match=f"{choice}='keep' is unknown; choose one of"):
        ViT(name="vit_small_patch16_dinov3", **SMALL, **{choice: "keep"})


@pytest.mark.parametrize(
    "arguments", [{"prefix_tokens_in_windows": "drop"}, {"window_positions": "window"}, {"final_norm": False}]
)
def test_choices_that_only_a_named_network_has_are_errors_without_a_name(arguments: dict[str, Any]):
    (argument,) = arguments
    small = {"depth": 1, "embed_dim": 8, "num_heads": 1, "global_block_indices": ()}
    with pytest.raises(ValueError, match=f"{argument}=.* is for a network with a name; .*leave it out"):
        ViT(**small, **arguments)
    ViT(**small, prefix_tokens_in_windows="global", window_positions="map", final_norm=True)
