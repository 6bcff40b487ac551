"""Names under which code bases publish the weights of foundation models, made from ours."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2}
Weights = dict[str, Tensor]
# our names in a block -> names of a code base
META = {"ls1.gamma": "ls1.gamma", "ls2.gamma": "ls2.gamma"}
PE = {
    **{f"norm{n}": f"ln_{n}" for n in (1, 2)},
    **{f"ls{n}.gamma": f"ls_{n}.gamma" for n in (1, 2)},
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
HF_DINOV3 = {
    **{f"ls{n}.gamma": f"layer_scale{n}.lambda1" for n in (1, 2)},
    "attn.proj": "attention.o_proj",
    "attn": "attention",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
}
HF_DINOV2 = {
    **{f"ls{n}.gamma": f"layer_scale{n}.lambda1" for n in (1, 2)},
    "attn.proj": "attention.output.dense",
    "attn": "attention.attention",
}
HF_SIGLIP = {
    **{f"norm{n}": f"layer_norm{n}" for n in (1, 2)},
    "attn.proj": "self_attn.out_proj",
    "attn": "self_attn",
}


def blocks_as(state: Weights, place: str, names: dict[str, str]) -> Weights:
    """Rename what is inside blocks, the longest of ``names`` first."""
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.*)", key)
        if match is None:
            continue
        ours = next(
            (name for name in sorted(names, key=len, reverse=True) if f"{match[2]}.".startswith(f"{name}.")), ""
        )
        renamed[f"{place}{match[1]}.{names.get(ours, ours)}{match[2].removeprefix(ours)}"] = value
    return renamed


def apart(state: Weights, whole: str, parts: tuple[str, ...]) -> Weights:
    """Split one layer into several, and its biases."""
    split: Weights = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if not name.endswith(f".{whole}"):
            split[key] = value
            continue
        for part, rows in zip(parts, value.chunk(len(parts)), strict=True):
            split[f"{name.removesuffix(whole)}{part}.{kind}"] = rows
    return split


def with_zero_key_bias(state: Weights) -> Weights:
    """Join biases as Meta's DINOv3 stores them: with rows for keys, which a mask hides."""
    joined = {key: value for key, value in state.items() if not key.endswith(("q_bias", "v_bias"))}
    for index in range(SMALL["depth"]):
        place = f"blocks.{index}.attn."
        zeros = torch.zeros(SMALL["embed_dim"])
        queries, values = (state.get(f"{place}{part}_bias", zeros) for part in "qv")
        joined[f"{place}qkv.bias"] = torch.cat([queries, zeros + 7, values])
        joined[f"{place}qkv.bias_mask"] = torch.cat([zeros + 1, zeros, zeros + 1])
    return joined


def meta_dinov3(state: Weights) -> Weights:
    rest = {key: value for key, value in state.items() if key != "reg_token"}
    extra = {
        "storage_tokens": state["reg_token"],
        "mask_token": torch.zeros(1, 24),
        "rope_embed.periods": torch.ones(3),
    }
    joined = {**with_zero_key_bias(rest), **extra}
    return apart(joined, "fc1", ("w1", "w2")) if gated(state) else joined


def gated(state: Weights) -> bool:
    return state["blocks.0.mlp.fc1.weight"].shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1]


def meta_swiglu_names(weights: Weights) -> Weights:
    return {re.sub(r"mlp\.fc2\.", "mlp.w3.", key): value for key, value in weights.items()}


def meta_dinov3_gated(state: Weights) -> Weights:
    return meta_swiglu_names(meta_dinov3(state))


def meta_dinov2(state: Weights) -> Weights:
    """The class token's position is the first row of the table; registers have none."""
    row = torch.full((1, 1, 24), 0.25)
    rest = {key: value for key, value in state.items() if key != "reg_token"}
    rest |= {"cls_token": state["cls_token"] - row, "pos_embed": torch.cat([row, state["pos_embed"]], 1)}
    return {**rest, "register_tokens": state["reg_token"], "mask_token": torch.zeros(1, 24)}


def baai_names(state: Weights) -> Weights:
    """Rename the layers of EVA-02, of which only larger networks keep the gate and the value apart."""
    split = apart(state, "qkv", ("q_proj", "k_proj", "v_proj"))
    split = apart(split, "fc1", ("w1", "w2")) if "blocks.0.mlp.norm.weight" in state else split
    names = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3.", "mlp.norm.": "mlp.ffn_ln."}
    renamed = {}
    for key, value in split.items():
        ours = next((name for name in names if name in key), "")
        renamed[key.replace(ours, names.get(ours, ""))] = value
    return renamed


def baai_eva(state: Weights) -> Weights:
    """Pre-training, whose decoder and norm are not part of the network."""
    extra = {"mask_token": torch.zeros(1, 1, 24), "norm.weight": torch.ones(24), "lm_head.weight": torch.ones(5, 24)}
    tables = {"rope.freqs_cos": torch.ones(4, 12), "blocks.0.attn.rope.freqs_sin": torch.ones(4, 12)}
    return {**baai_names(state), **extra, **tables}


def baai_eva_detector(state: Weights) -> Weights:
    """Backbone of a detector, which stores the tables of its rotary positions twice."""
    places = ("rope_win", "rope_glb", "blocks.0.attn.rope", "blocks.1.attn.rope")
    tables = {f"{place}.freqs_{part}": torch.ones(4, 12) for place in places for part in ("cos", "sin")}
    return {**baai_names(state), **tables}


def meta_pe(state: Weights) -> Weights:
    top = {"conv1.weight": state["patch_embed.proj.weight"], "class_embedding": state["cls_token"][0, 0]}
    top |= {f"ln_pre.{kind}": state[f"norm_pre.{kind}"] for kind in ("weight", "bias")}
    top |= {f"ln_post.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias") if f"norm.{kind}" in state}
    top |= {
        "positional_embedding": state["pos_embed"][0],
        "proj": torch.ones(24, 5),
        "attn_pool.probe": torch.ones(1, 1, 24),
    }
    return {**top, **blocks_as(state, "transformer.resblocks.", PE)}


def meta_pe_clip(state: Weights) -> Weights:
    text = {
        "logit_scale": torch.ones(()),
        "text_projection": torch.ones(3, 3),
        "token_embedding.weight": torch.ones(4, 3),
    }
    text |= {"transformer.resblocks.0.ln_1.weight": torch.ones(3), "positional_embedding": torch.ones(2, 3)}
    return {**{f"visual.{key}": value for key, value in meta_pe(state).items()}, **text}


def transformers_dinov3(state: Weights) -> Weights:
    top = {f"embeddings.patch_embeddings.{kind}": state[f"patch_embed.proj.{kind}"] for kind in ("weight", "bias")}
    top |= {"embeddings.cls_token": state["cls_token"], "embeddings.register_tokens": state["reg_token"]}
    top |= {"embeddings.mask_token": torch.zeros(1, 1, 24), **{k: state[k] for k in ("norm.weight", "norm.bias")}}
    blocks = apart(blocks_as(state, "layer.", HF_DINOV3), "qkv", ("q_proj", "k_proj", "v_proj"))
    blocks = {re.sub(r"\.([qv])_bias$", r".\1_proj.bias", key): value for key, value in blocks.items()}
    return {**top, **(apart(blocks, "up_proj", ("gate_proj", "up_proj")) if gated(state) else blocks)}


def transformers_dinov2(state: Weights) -> Weights:
    meta = meta_dinov2(state)
    top = {
        f"embeddings.patch_embeddings.projection.{kind}": meta[f"patch_embed.proj.{kind}"]
        for kind in ("weight", "bias")
    }
    names = {"register_tokens": "register_tokens", "cls_token": "cls_token", "mask_token": "mask_token"}
    top |= {
        f"embeddings.{theirs}": meta[name] for name, theirs in {**names, "pos_embed": "position_embeddings"}.items()
    }
    top |= {f"layernorm.{kind}": meta[f"norm.{kind}"] for kind in ("weight", "bias")}
    return {**top, **apart(blocks_as(meta, "encoder.layer.", HF_DINOV2), "qkv", ("query", "key", "value"))}


def transformers_siglip(state: Weights) -> Weights:
    top = {f"embeddings.patch_embedding.{kind}": state[f"patch_embed.proj.{kind}"] for kind in ("weight", "bias")}
    top |= {"embeddings.position_embedding.weight": state["pos_embed"][0], "head.probe": torch.ones(1, 1, 24)}
    top |= {f"post_layernorm.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}
    blocks = apart(blocks_as(state, "encoder.layers.", HF_SIGLIP), "qkv", ("q_proj", "k_proj", "v_proj"))
    return {f"vision_model.{key}": value for key, value in {**top, **blocks}.items()}


def transformers5_dinov3(state: Weights) -> Weights:
    return {re.sub(r"^layer\.", "model.layer.", key): value for key, value in transformers_dinov3(state).items()}


def transformers5_dinov2(state: Weights) -> Weights:
    names = {"attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj"}
    names |= {"attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj"}
    found = {}
    for key, value in transformers_dinov2(state).items():
        old = next((name for name in names if name in key), "")
        found[key.replace(old, names.get(old, ""))] = value
    return found


def transformers5_siglip(state: Weights) -> Weights:
    return {key.removeprefix("vision_model."): value for key, value in transformers_siglip(state).items()}
