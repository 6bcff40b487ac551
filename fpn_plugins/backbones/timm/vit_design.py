"""Read the design of timm's plain Vision Transformers: its ``VisionTransformer`` and ``Eva`` classes."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ...checks import text
from ..vit.design import ALL_BIASED, KEYS_UNBIASED, NO_BIAS, ViTDesign
from ..vit.rotary import Rotary
from .networks import check_name, import_timm, skeleton


def read_vit_design(name: str) -> ViTDesign:
    """Read the design of the network that timm calls ``name``, with or without the tag of its weights.

    Raises:
        ImportError: timm is not installed.
        ValueError: an unknown name or tag (see `check_name`), or a network with parts that `ViTDesign` does not have.
    """
    architecture = check_name(text("name", name, "vit_small_patch16_dinov3"))
    network = skeleton(partial(import_timm().create_model, architecture))
    if type(network).__name__ not in ("Eva", "VisionTransformer"):
        raise ValueError(
            f"name={name!r} is a {type(network).__name__}, not a plain Vision Transformer; use TimmBackbone"
        )
    unknown = _unknown_part(network)
    if unknown:
        raise ValueError(f"name={name!r} has {unknown}, which ViT does not compute; use TimmBackbone")
    return _read(network)


def _read(network: Any) -> ViTDesign:
    block = network.blocks[0]
    rows = 0 if network.no_embed_class else network.num_prefix_tokens
    scale = getattr(block, "init_values", None)
    return ViTDesign(
        patch_size=network.patch_embed.patch_size[0],
        embed_dim=network.embed_dim,
        depth=len(network.blocks),
        num_heads=block.attn.num_heads,
        hidden_dim=block.mlp.fc2.in_features,
        norm_eps=block.norm1.eps,
        qkv_bias=_bias(block.attn),
        use_abs_pos=network.pos_embed is not None,
        use_rel_pos=False,
        pretrain_img_size=network.patch_embed.img_size[0],
        position_rows=rows,
        antialias_positions=True,
        sequence=True,
        class_token=network.cls_token is not None,
        num_registers=0 if network.reg_token is None else network.reg_token.shape[1],
        pre_norm=_is_norm(network.norm_pre),
        final_norm=_is_norm(network.norm),
        gated=type(block.mlp).__name__ != "Mlp",
        gelu="tanh" if type(block.mlp.act).__name__ == "GELUTanh" else "none",
        mlp_norm=_is_norm(block.mlp.norm),
        attention_norm=_is_norm(block.attn.norm),
        qk_norm=_is_norm(block.attn.q_norm),
        layer_scale=getattr(getattr(block, "ls1", None), "init_values", None) if scale is None else scale,
        rotary=_rotary(getattr(network, "rope", None)),
    )


def _is_norm(layer: nn.Module) -> bool:
    return not isinstance(layer, nn.Identity)


def _bias(attention: Any) -> str:
    """Say which of queries, keys and values have a bias, whether they are one layer or three."""
    if attention.qkv is None:
        keys, queries = attention.k_proj.bias, attention.q_proj.bias
    else:
        keys, queries = attention.qkv.bias, getattr(attention, "q_bias", None)
    return ALL_BIASED if keys is not None else NO_BIAS if queries is None else KEYS_UNBIASED


def _rotary(rope: Any) -> Rotary | None:
    if rope is None:
        return None
    reference = getattr(rope, "ref_feat_shape", None)
    return Rotary(
        temperature=float(rope.temperature),
        centered=type(rope).__name__ == "RotaryEmbeddingDinoV3",
        reference=None if reference is None else (reference[0], reference[1]),
        offset=rope.grid_offset,
        columns_first=rope.grid_indexing == "xy",
        halves=getattr(rope, "rotate_half", False),
    )


# classes of timm's layers that this package computes, by their place in a network
_COMPUTED = {
    "patch_embed": ("PatchEmbed",),
    "patch_embed.norm": ("Identity",),
    "norm_pre": ("LayerNorm", "Identity"),
    "rope": ("RotaryEmbeddingCat", "RotaryEmbeddingDinoV3", "NoneType"),
    "blocks.0": ("Block", "EvaBlock"),
    "blocks.0.norm1": ("LayerNorm",),
    "blocks.0.attn": ("Attention", "EvaAttention", "AttentionRope"),
    "blocks.0.attn.gate": ("NoneType",),
    "blocks.0.mlp": ("Mlp", "GluMlp", "SwiGLU"),
    "blocks.0.mlp.act": ("GELU", "GELUTanh", "SiLU"),
}


def _unknown_part(network: Any) -> str:
    """Describe the first part that `ViTDesign` cannot express, or return an empty text."""
    for place, classes in _COMPUTED.items():
        layer = network
        for step in place.split("."):
            layer = layer[int(step)] if step.isdigit() else getattr(layer, step, None)
        if type(layer).__name__ not in classes:
            return f"{type(layer).__name__} as {place}"
    block, (height, width) = network.blocks[0], network.patch_embed.img_size
    attention, mlp, rope = block.attn, block.mlp, getattr(network, "rope", None)
    gated = type(mlp).__name__ != "Mlp"
    others = {
        "groups of queries": len(
            {getattr(b.attn, "num_kv_heads", None) for b in network.blocks} - {None, attention.num_heads}
        ),
        "heads of another width": attention.head_dim * attention.num_heads != network.embed_dim,
        "factors of one branch": hasattr(block, "gamma_1") and (block.gamma_1 is None) != (block.gamma_2 is None),
        "another activation of its MLPs": gated != (type(mlp.act).__name__ == "SiLU"),
        "a gate after the value": getattr(mlp, "gate_last", False),
        "rotary positions that depend on the longer side": getattr(rope, "normalize_coords", "separate") != "separate",
        "rotary positions in pixels": getattr(rope, "in_pixels", False),
        "a pre-training on rectangles": height != width,
    }
    return next((part for part, found in others.items() if found), "")
