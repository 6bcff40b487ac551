"""ViTAdapter equals a plain definition in published names, whose layout it loads, at any image size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import assert_zero_padded_and_rounded_up
from precision import assert_same_gradients, assert_same_maps
from registered import BACKBONE_ARGUMENTS, build, gradients
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, Pyramid, ViT, ViTAdapter
from fpn_plugins.weights import write_checkpoint
from fpn_plugins.weights.maps.vit_adapter import published

ARGUMENTS = BACKBONE_ARGUMENTS["ViTAdapter"]
VIT: dict[str, Any] = ARGUMENTS["vit"]
HEADS, POINTS = 2, ARGUMENTS["n_points"]
DINOV2 = {"name": "vit_small_patch14_reg4_dinov2", "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
KEYS = ("running_mean", "running_var", "weight", "bias")
Weights = dict[str, Tensor]


def in_their_names(tensors: Weights) -> Weights:
    return published().inverse().apply(tensors)[0]


def attended(w: Weights, place: str, x: Tensor, values: Tensor, at: list[tuple[int, int]], levels: Any) -> Tensor:
    """Read points of every level around each cell, one cell, head, level and point at a time, bilinearly."""

    def linear(name: str, y: Tensor) -> Tensor:
        return F.linear(y, w[f"{place}.{name}.weight"], w[f"{place}.{name}.bias"])

    offsets = linear("sampling_offsets", x).unflatten(-1, (HEADS, len(levels), POINTS, 2))
    weights = linear("attention_weights", x).unflatten(-1, (HEADS, -1)).softmax(-1).unflatten(-1, (-1, POINTS))
    places = torch.cat([torch.stack((xs, ys), -1) for ys, xs in map(centers, at)]).double()
    maps = linear("value_proj", values).split([h * v for h, v in levels], 1)
    out = 0
    for level, (m, (height, width)) in enumerate(zip(maps, levels, strict=True)):
        m = m.unflatten(1, (height, width)).unflatten(-1, (HEADS, -1))
        cell = places[:, None, None] * torch.tensor([width, height]) + offsets[:, :, :, level] - 0.5
        low = cell.floor()
        for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
            xs, ys = low[..., 0] + dx, low[..., 1] + dy
            share = (1 - (cell[..., 0] - xs).abs()) * (1 - (cell[..., 1] - ys).abs()) * weights[:, :, :, level]
            share = share * ((xs >= 0) & (xs < width) & (ys >= 0) & (ys < height))
            batch = torch.arange(len(x))[:, None, None, None]
            head = torch.arange(HEADS)[None, None, :, None]
            read = m[batch, ys.long().clamp(0, height - 1), xs.long().clamp(0, width - 1), head]
            out = out + (share[..., None] * read).sum(-2)
    return linear("output_proj", out.flatten(2))


def centers(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return y.flatten() / height, x.flatten() / width


def adapted(adapter: ViTAdapter, image: Tensor) -> list[Tensor]:
    """Compute the maps for whole cells from weights in published names; the ViT's blocks are those of `ViT`."""
    w = in_their_names({**adapter.state_dict(), **dict(adapter.named_parameters())})
    sizes = [(image.shape[-2] // s, image.shape[-1] // s) for s in (8, 16, 32)]
    dim = adapter.feature_specs[0].channels

    def normed(place: str, x: Tensor) -> Tensor:
        return F.batch_norm(x, *(w[f"{place}.{key}"] for key in KEYS))

    def convolved(place: str, number: int, x: Tensor, stride: int = 2) -> Tensor:
        conv, norm = f"{place}.{number}", f"{place}.{number + 1}"
        return F.relu(normed(norm, F.conv2d(x, w[f"{conv}.weight"], stride=stride, padding=1)))

    def layer_norm(place: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (dim,), w[f"{place}.weight"], w[f"{place}.bias"], 1e-6)

    def extracted(place: str, c: Tensor, x: Tensor) -> Tensor:
        query, feat = layer_norm(f"{place}.query_norm", c), layer_norm(f"{place}.feat_norm", x)
        c = c + attended(w, f"{place}.attn", query, feat, sizes, sizes[1:2])
        hidden = F.linear(layer_norm(f"{place}.ffn_norm", c), *(w[f"{place}.ffn.fc1.{k}"] for k in ("weight", "bias")))
        kernel = [w[f"{place}.ffn.dwconv.dwconv.{k}"] for k in ("weight", "bias")]
        joined = torch.cat([F.conv2d(m, *kernel, padding=1, groups=m.shape[1]).flatten(2) for m in maps_of(hidden)], 2)
        return c + F.linear(F.gelu(joined.mT), *(w[f"{place}.ffn.fc2.{k}"] for k in ("weight", "bias")))

    def maps_of(cells: Tensor) -> list[Tensor]:
        parts = cells.split([h * v for h, v in sizes], 1)
        return [part.mT.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]

    stem = convolved("spm.stem", 0, image)
    stem = convolved("spm.stem", 6, convolved("spm.stem", 3, stem, 1), 1)
    details = [F.max_pool2d(stem, 3, 2, 1)]
    for k in (2, 3, 4):
        details.append(convolved(f"spm.conv{k}", 0, details[-1]))
    details = [F.conv2d(m, w[f"spm.fc{k}.weight"], w[f"spm.fc{k}.bias"]) for k, m in enumerate(details, 1)]
    c = torch.cat([m.flatten(2).mT + w["level_embed"][k] for k, m in enumerate(details[1:])], 1)
    tokens, _ = adapter.vit.embed(image)
    for i, block in enumerate(adapter.vit.blocks):
        x, place = tokens.flatten(1, 2), f"interactions.{i}"
        query, feat = layer_norm(f"{place}.injector.query_norm", x), layer_norm(f"{place}.injector.feat_norm", c)
        read = attended(w, f"{place}.injector.attn", query, feat, sizes[1:2], sizes)
        tokens = block((x + w[f"{place}.injector.gamma"] * read).unflatten(1, sizes[1]))
        c = extracted(f"{place}.extractor", c, tokens.flatten(1, 2))
    for j in range(2):
        c = extracted(f"interactions.{i}.extra_extractors.{j}", c, tokens.flatten(1, 2))
    c3, c4, c5 = maps_of(c)
    c2 = F.conv_transpose2d(c3, w["up.weight"], w["up.bias"], stride=2) + details[0]
    vit = [F.interpolate(tokens.permute(0, 3, 1, 2), scale_factor=s, mode="bilinear") for s in (4.0, 2.0, 1.0, 0.5)]
    return [normed(f"norm{k}", m + v) for k, (m, v) in enumerate(zip((c2, c3, c4, c5), vit, strict=True), 1)]


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_matches_the_definition(size: tuple[int, int]) -> None:
    adapter = build("ViTAdapter", deform_ratio=0.5).double()
    assert adapter.feature_specs == tuple(FeatureSpec(32, stride) for stride in (4, 8, 16, 32))
    image = torch.randn(2, 3, *size, dtype=torch.double)
    got, expected = adapter(image), adapted(adapter, image)
    assert_same_maps(got, expected)
    assert_same_gradients(gradients(adapter, got), gradients(adapter, expected))


@settings(max_examples=6)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_any_size_is_zero_padded_and_rounds_up(height: int, width: int) -> None:
    assert_zero_padded_and_rounded_up("ViTAdapter", height, width)


def test_published_layout_loads(tmp_path: Path) -> None:
    """Theirs is a ViT itself, with LayerScale, which is folded, and a row for the class token that it lacks."""
    weights = build("ViTAdapter").state_dict()
    theirs = in_their_names(weights)
    theirs |= {f"blocks.{i}.gamma{n}": torch.full((32,), 2.0) for i in range(2) for n in (1, 2)}
    assert set(theirs) & set(weights) == {key for key in weights if key.startswith("up.") or ".injector." in key} | {
        "level_embed"
    }
    write_checkpoint(theirs, tmp_path / "adapter.pth")
    adapter = ViTAdapter(**ARGUMENTS, checkpoint=tmp_path / "adapter.pth", frozen_stages=1)
    scaled = ("attn.proj.weight", "attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")
    for key, value in adapter.state_dict().items():
        assert value.equal(weights[key] * (2 if key.startswith("vit.blocks") and key.endswith(scaled) else 1)), key
    assert not adapter.vit.blocks[0].mlp.fc1.weight.requires_grad and adapter.vit.blocks[1].mlp.fc1.weight.requires_grad
    del theirs["spm.conv3.0.weight"]
    write_checkpoint(theirs, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part.pth' does not fit ViTAdapter .*prior.convs.1.conv.weight"):
        adapter.load_weights(tmp_path / "part.pth")


@pytest.mark.parametrize("padded", [True, False])
def test_padding_of_windows(padded: bool) -> None:
    """The padding's keys have no bias if it is added after the projection."""
    torch.manual_seed(0)
    small = {"embed_dim": 8, "depth": 1, "num_heads": 1, "window_size": 4, "global_block_indices": ()}
    vit = ViT(**small, use_rel_pos=False, zero_window_padding=padded).double().eval()
    attention = vit.blocks[0].attn
    nn.init.normal_(attention.qkv.bias)
    x = torch.randn(1, 3, 2, 8, dtype=torch.double)
    projected = F.pad(attention.qkv(x), (0, 0, 0, 2, 0, 1)) if padded else attention.qkv(F.pad(x, (0, 0, 0, 2, 0, 1)))
    q, k, v = projected.flatten(1, 2).chunk(3, -1)
    expected = attention.proj((q @ k.mT / 8**0.5).softmax(-1) @ v).unflatten(1, (4, 4))[:, :3, :2]
    assert_same_maps(attention(x), expected)


def test_options_of_the_published_module() -> None:
    image = torch.randn(1, 3, 40, 40)
    plain = {"with_cffn": False, "use_extra_extractor": False, "add_vit_feature": False, "interaction_indices": (1,)}
    adapter = ViTAdapter({**VIT, "depth": 4, "global_block_indices": (), "in_chans": 4}, **plain, norm="LN")
    assert [len(part.extractors) for part in adapter.interactions] == [1]
    assert len(adapter.vit.blocks) == 2 and not any(".ffn" in key for key in adapter.state_dict())
    maps = adapter(image.repeat(1, 2, 1, 1)[:, :4])
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 10, 10), (32, 5, 5), (32, 3, 3), (32, 2, 2)]
    started = ViTAdapter(VIT)
    assert not started.interactions[0].injector.gamma.any()  # a pre-trained ViT is unchanged at first
    assert started.interactions[0].injector.attn.sampling_offsets.bias.abs().max() == 4
    sparse = Pyramid(ViTAdapter(**ARGUMENTS), {"type": "FPN", "out_channels": 8, "in_indices": (1, 2)}).backbone
    assert sparse.up is None and not list(sparse.prior.projections[0].parameters())


@pytest.mark.parametrize("vit", [{}, {"gradient_checkpointing": False}], ids=["all", "adapter"])
def test_gradient_checkpointing_reaches_the_blocks(vit: dict[str, Any]) -> None:
    adapter = ViTAdapter({**VIT, **vit}, gradient_checkpointing=True)
    assert adapter.vit.gradient_checkpointing is vit.get("gradient_checkpointing", True)


@pytest.mark.timm
@pytest.mark.parametrize(
    "windows", [{}, {"window_size": 3, "prefix_tokens_in_windows": "copy"}], ids=["global", "copy"]
)
def test_on_a_named_network_prefix_tokens_pass_through(windows: dict[str, Any]) -> None:
    """With factors of zero the ViT computes what it computes alone, before its final norm."""
    adapter = ViTAdapter({**DINOV2, **windows}, conv_inplane=8).eval()
    seen: list[Tensor] = []
    adapter.interactions[-1].extractors[0].register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    image = torch.randn(1, 3, 64, 96)
    maps = adapter(image)
    alone = ViT(**DINOV2, **windows, final_norm=False).eval()
    alone.load_state_dict(adapter.vit.state_dict())
    assert_same_maps(seen[0].mT.unflatten(2, (4, 6)), alone(image)[0])
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 16, 24), (16, 8, 12), (16, 4, 6), (16, 2, 3)]
    assert (adapter.mean, adapter.std) == (adapter.vit.mean, adapter.vit.std)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vit": {**VIT, "patch_size": 8}}, "patch_size=8 must be 16"),
        (
            {"vit": {**VIT, "out_block_indices": (1,)}},
            "out_block_indices=.*follows from interaction_indices; remove it",
        ),
        ({"vit": {**VIT, "final_norm": True}}, "final_norm=True: in a ViTAdapter, it is False"),
        ({"vit": {**VIT, "feature_cache": {}}}, "feature_cache=.* would keep maps"),
        ({"interaction_indices": (0, 2)}, r"interaction_indices=\[0, 2\] must be ascending .* 2 blocks"),
        ({"deform_num_heads": 3}, "deform_num_heads=3 must divide the 32 channels of a token"),
        ({"deform_ratio": 0.1}, "deform_num_heads=2 must divide the 3 channels of the values that deform_ratio=0.1"),
        ({"cffn_ratio": 0.01}, "cffn_ratio=0.01 leaves no hidden channel of 32"),
        ({"frozen_stages": 3}, "frozen_stages=3 must be -1"),
    ],
)
def test_errors_name_argument_and_remedy(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTAdapter(**{"vit": VIT, **arguments})
