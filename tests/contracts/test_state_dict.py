"""State-dict keys of every neck and backbone, on which published checkpoints depend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registered import (
    BACKBONE_NAMES,
    DEPTHS,
    NECK_NAMES,
    SMALL_NETWORK,
    TINY_ENCODER,
    VIT_PARTS,
    build,
)

from fpn_plugins import BACKBONES, NECKS


@pytest.mark.parametrize("name", [name for name in NECK_NAMES if NECKS[name].__module__.startswith("fpn_plugins.")])
def test_state_dict_keys_of_necks_are_pinned_by_their_own_tests(name: str):
    """Published checkpoints depend on them."""
    module = NECKS[name].__module__.rpartition(".")[2]
    tests = next(path for path in Path(__file__).parents if path.name == "tests")
    assert f'assert_pinned("{name}", ' in (tests / f"necks/test_{module}.py").read_text()


def timms_keys() -> set[str]:
    """Whatever timm names them, below ``model``."""
    import timm

    theirs = timm.create_model("resnet10t", features_only=True, out_indices=(1, 2, 3, 4))
    return {f"model.{key}" for key in theirs.state_dict()}


def swins_keys() -> set[str]:
    """The official names."""
    linear = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
    blocks = [f"layers.{i}.blocks.{j}" for i, j in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))]
    places = [f"{block}.{part}" for block in blocks for part in linear]
    places += ["patch_embed.proj", "patch_embed.norm", *(f"norm{i}" for i in range(4))]
    places += [f"layers.{i}.downsample.norm" for i in range(3)]
    keys = {f"{place}.{part}" for place in places for part in ("weight", "bias")}
    keys |= {f"layers.{i}.downsample.reduction.weight" for i in range(3)}
    return keys | {f"{block}.attn.relative_position_bias_table" for block in blocks}


def vit_keys(**arguments: Any) -> set[str]:
    """Those of the ViT, below ``vit``; they are pinned as its own."""
    return {f"vit.{key}" for key in BACKBONES["ViT"](**arguments).state_dict()}


def hybrid_keys() -> set[str]:
    """timm's, below ``model``, without the classifier."""
    import timm

    return {f"model.{key}" for key in timm.create_model("vit_small_r26_s32_224", **TINY_ENCODER).state_dict()} - {
        "model.head.weight",
        "model.head.bias",
    }


def affine(*names: str) -> set[str]:
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")}


def vit_block(name: str) -> set[str]:
    layers = affine(*(f"{name}.{part}" for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")))
    return layers | {f"{name}.attn.rel_pos_h", f"{name}.attn.rel_pos_w"}


def foundation_block(name: str) -> set[str]:
    layers = affine(*(f"{name}.{part}" for part in ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")))
    return layers | {f"{name}.attn.{key}" for key in ("qkv.weight", "q_bias", "v_bias")}


MVIT_PARTS = (
    "norm1",
    "norm2",
    "mlp.fc1",
    "mlp.fc2",
    *(f"attn.{p}" for p in ("qkv", "proj", "norm_q", "norm_k", "norm_v")),
)


def mvit_block(name: str) -> set[str]:
    pooling = {f"{name}.attn.{key}" for key in ("rel_pos_h", "rel_pos_w", *(f"pool_{p}.weight" for p in "qkv"))}
    return pooling | affine(*(f"{name}.{part}" for part in MVIT_PARTS))


BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def normed(*names: str) -> set[str]:
    """Convolutions without a bias, with batch norm."""
    return {f"{name}.{part}" for name in names for part in ("conv.weight", *(f"norm.{key}" for key in BATCH_NORM))}


def adapter_keys() -> set[str]:
    """ViTAdapter with two blocks, each with an interaction."""
    attention = tuple(f"attn.{part}" for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"))
    ffn = ("ffn.fc1", "ffn.dwconv", "ffn.fc2", "ffn_norm")
    keys = normed(*(f"prior.{part}.{k}" for part in ("stem", "convs") for k in range(3)))
    keys |= {"level_embed", "interactions.0.injector.gamma", "interactions.1.injector.gamma"}
    keys |= affine("up", *(f"prior.projections.{k}" for k in range(4)))
    keys |= {f"norms.{k}.{key}" for k in range(4) for key in BATCH_NORM}
    for i, count in enumerate((1, 3)):
        places = [("injector", ()), *((f"extractors.{j}", ffn) for j in range(count))]
        keys |= affine(
            *(
                f"interactions.{i}.{p}.{part}"
                for p, more in places
                for part in ("query_norm", "feat_norm", *attention, *more)
            )
        )
    return keys | vit_keys(**SMALL_NETWORK, pretrain_img_size=64, use_rel_pos=False)


def resnet_keys() -> set[str]:
    """torchvision's, without the classifier."""
    convs = {"conv1": "bn1"}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            place = f"layer{stage}.{block}"
            convs |= {f"{place}.conv{n}": f"{place}.bn{n}" for n in (1, 2, 3)}
            convs |= {} if block else {f"{place}.downsample.0": f"{place}.downsample.1"}
    statistics = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{conv}.weight" for conv in convs} | {f"{norm}.{key}" for norm in convs.values() for key in statistics}


BACKBONE_KEYS: dict[str, Callable[[], set[str]]] = {
    "MultiDepthViT": lambda: (
        vit_keys(**VIT_PARTS)
        | {f"resamples.{place}.{part}" for place in ("0.0", "0.1", "0.3", "1.0") for part in ("weight", "bias")}
    ),
    "HybridCNNViT": lambda: (
        {f"cnn.{key}" for key in timms_keys()}
        | {"norm.weight", "norm.bias"}
        | vit_keys(**TINY_ENCODER, use_rel_pos=False, global_block_indices=())
    ),
    "TimmHybrid": hybrid_keys,
    "TimmBackbone": timms_keys,
    "Swin": swins_keys,
    "ImagePyramid": lambda: {f"backbone.{key}" for key in timms_keys() if ".layer4." not in key},
    "MViT": lambda: {
        *affine("patch_embed.proj", *(f"norms.{i}" for i in range(4)), *(f"blocks.{i}.proj" for i in (1, 3, 5))),
        *(key for i in range(7) for key in mvit_block(f"blocks.{i}")),
    },
    "ViT-DINOv3": lambda: {
        *("cls_token", "reg_token", *affine("patch_embed.proj", "norm")),
        *(key for i in range(2) for key in foundation_block(f"blocks.{i}")),
        *(f"blocks.{i}.{part}.gamma" for i in range(2) for part in ("ls1", "ls2")),
    },
    "ViT-EVA-02": lambda: {
        *("cls_token", "pos_embed", *affine("patch_embed.proj")),
        *(key for i in range(2) for key in foundation_block(f"blocks.{i}") | affine(f"blocks.{i}.mlp.norm")),
    },
    "DetectoRSResNet": resnet_keys,
    "SpatialTuningAdapter": lambda: (
        vit_keys(**{key: value for key, value in DEPTHS.items() if key != "type"})
        | normed(*(f"detail_convs.{k}" for k in range(4)), *(f"fusion_convs.{i}" for i in range(3)))
    ),
    "ViTAdapter": adapter_keys,
    "ViT": lambda: {"pos_embed", *affine("patch_embed.proj"), *(k for i in range(2) for k in vit_block(f"blocks.{i}"))},
}


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_state_dict_keys_of_backbones_are_pinned(name: str):
    assert set(build(name).state_dict()) == BACKBONE_KEYS[name]()
