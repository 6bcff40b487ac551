"""Published key names of foundation models load into `ViT` completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from published_vits import (
    SMALL,
    Weights,
    baai_eva,
    baai_eva_detector,
    meta_dinov2,
    meta_dinov3,
    meta_dinov3_gated,
    meta_pe,
    meta_pe_clip,
    transformers5_dinov2,
    transformers5_dinov3,
    transformers5_siglip,
    transformers_dinov2,
    transformers_dinov3,
    transformers_siglip,
)
from random_weights import nothing_trivial

from fpn_plugins import ViT

pytestmark = pytest.mark.timm

LAYOUTS: list[tuple[str, Callable[[Weights], Weights]]] = [
    ("vit_small_patch16_dinov3", meta_dinov3),
    ("vit_small_patch16_dinov3_qkvb", meta_dinov3),
    ("vit_small_plus_patch16_dinov3_qkvb", meta_dinov3_gated),
    ("vit_small_patch14_reg4_dinov2", meta_dinov2),
    ("eva02_tiny_patch14_224", baai_eva),
    ("eva02_base_patch14_224", baai_eva),
    ("eva02_base_patch14_224", baai_eva_detector),
    ("vit_pe_core_tiny_patch16_384", meta_pe),
    ("vit_pe_core_tiny_patch16_384", meta_pe_clip),
    ("vit_pe_spatial_tiny_patch16_512", meta_pe),
    ("vit_pe_lang_large_patch14_448", meta_pe),
    ("vit_small_patch16_dinov3", transformers_dinov3),
    ("vit_small_patch16_dinov3_qkvb", transformers_dinov3),
    ("vit_small_plus_patch16_dinov3_qkvb", transformers_dinov3),
    ("vit_small_patch14_reg4_dinov2", transformers_dinov2),
    ("vit_base_patch16_siglip_256", transformers_siglip),
    ("vit_small_plus_patch16_dinov3_qkvb", transformers5_dinov3),
    ("vit_small_patch14_reg4_dinov2", transformers5_dinov2),
    ("vit_base_patch16_siglip_256", transformers5_siglip),
]
IDS = [f"{layout.__name__}-{name}" for name, layout in LAYOUTS]


def small(name: str, **arguments: Any) -> ViT:
    return ViT(name=name, **{**SMALL, **arguments})


@pytest.mark.parametrize(("name", "layout"), LAYOUTS, ids=IDS)
def test_published_names_load_strictly(name: str, layout: Callable[[Weights], Weights]):
    source = nothing_trivial(small(name)).state_dict()
    theirs = layout(source)
    assert set(theirs) != set(source)
    net = small(name)
    net.load_weights(theirs)
    loaded = net.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.allclose(loaded[key], source[key], rtol=0, atol=1e-6) for key in source)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS, ids=IDS)
def test_any_missing_or_foreign_key_is_an_error_and_loads_nothing(name: str, layout: Callable[[Weights], Weights]):
    theirs = layout(nothing_trivial(small(name)).state_dict())
    read = next(key for key in theirs if re.search(r"(norm|ln_)2\.weight$|layer_norm2", key))
    net = small(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for wrong in (
        {key: theirs[key] for key in theirs if key != read},
        {**theirs, "blocks.0.adapter.weight": theirs[read]},
    ):
        with pytest.raises(ValueError, match="does not fit"):
            net.load_weights(wrong)
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(("name", "layout"), LAYOUTS, ids=IDS)
def test_fewer_blocks_and_dropped_tokens_leave_out_their_weights(name: str, layout: Callable[[Weights], Weights]):
    source = nothing_trivial(small(name)).state_dict()
    net = small(name, out_block_indices=(0,), window_size=2, global_block_indices=(), prefix_tokens_in_windows="drop")
    net.load_weights(layout(source))
    assert all(torch.allclose(value, source[key], rtol=0, atol=1e-6) for key, value in net.state_dict().items())


def test_biases_that_matter_are_not_dropped():
    """The network without biases takes a file whose biases are zero, and no other."""
    theirs = meta_dinov3(nothing_trivial(small("vit_small_patch16_dinov3_qkvb")).state_dict())
    with pytest.raises(ValueError, match=r"does not fit.*qkv\.bias"):
        small("vit_small_patch16_dinov3").load_weights(theirs)


@pytest.mark.parametrize("choice", [{}, {"window_size": 2, "prefix_tokens_in_windows": "drop"}], ids=["global", "drop"])
def test_tokens_that_a_network_never_had_are_foreign(choice: dict[str, Any]):
    """Windows leave out a network's own tokens; those of another network would be lost without a word."""
    with_class_token = nothing_trivial(small("vit_base_patch16_224")).state_dict()
    with pytest.raises(ValueError, match="does not fit ViT 'vit_base_patch16_siglip_256'.*cls_token"):
        small("vit_base_patch16_siglip_256", **choice).load_weights(with_class_token)
    with_registers = nothing_trivial(small("vit_small_patch14_reg4_dinov2")).state_dict()
    with pytest.raises(ValueError, match="does not fit ViT 'vit_small_patch14_dinov2'.*reg_token"):
        small("vit_small_patch14_dinov2", **choice).load_weights(with_registers)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        *(("pos_embed", shape) for shape in ((), (24,), (1, 197, 12), (1, 7, 24))),
        *(("cls_token", shape) for shape in ((), (3, 24))),
        *(("patch_embed.proj.weight", shape) for shape in ((), (24, 3, 16), (24, 3, 14, 15), (24, 1, 14, 14))),
    ],
)
@pytest.mark.parametrize("name", ["vit_base_patch16_224", None])
def test_tables_and_filters_that_cannot_be_resized_are_named(name: str | None, key: str, shape: tuple[int, ...]):
    net = ViT(name=name, **SMALL, global_block_indices=(1,))
    if key not in net.state_dict():
        return
    with pytest.raises(ValueError, match=rf"does not fit.*{key} (\(|has \d positions)"):
        net.load_weights({**net.state_dict(), key: torch.ones(shape)})
