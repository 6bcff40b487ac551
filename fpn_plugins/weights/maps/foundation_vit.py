"""Foundation models' Vision Transformers: the layouts of timm, Meta, BAAI and Hugging Face's transformers -> ours.

Ours are timm's names, with ``ls1.gamma`` for ``gamma_1``, and one layer each for the projections of queries, keys and
values and for the gate and the value of a gated MLP, as `fpn_plugins.weights.foundation_vit.join_layers` leaves them::

    cls_token   reg_token   pos_embed   patch_embed.proj.*   norm_pre.*   norm.*
    blocks.<i>.{norm1,norm2}.*   blocks.<i>.{ls1,ls2}.gamma
    blocks.<i>.attn.{qkv,q_norm,k_norm,norm,proj}.*   blocks.<i>.attn.{q_bias,v_bias}
    blocks.<i>.mlp.{fc1,norm,fc2}.*

Layers that classify, pool or reconstruct after the encoder are dropped, and so are stored tables of rotary positions.
"""

from collections.abc import Iterable

from ..key_map import KeyMap

_EMBEDDINGS = ("cls_token", "reg_token", "pos_embed", "patch_embed.proj.<*>", "norm_pre.<*>")
_ENDS = ("head.<*>", "fc_norm.<*>", "attn_pool.<*>", "mask_token", "lm_head.<*>")
_ROTARY = ("rope.<*>", "rope_embed.<*>", "rope_embeddings.<*>", "rope_win.<*>", "rope_glb.<*>")

Rules = list[tuple[str, str | None]]


def _same(keys: Iterable[str]) -> Rules:
    return [(key, key) for key in keys]


def timm() -> KeyMap:
    """Build the table of timm's ``VisionTransformer`` and ``Eva``."""
    scales: Rules = [(f"blocks.<i>.gamma_{n}", f"blocks.<i>.ls{n}.gamma") for n in (1, 2)]
    return KeyMap("timm ViT", [*scales, *_same((*_EMBEDDINGS, "norm.<*>", "blocks.<i>.<*>"))]).dropping(
        (*_ENDS, "rope.<*>")
    )


def dino() -> KeyMap:
    """Build the table of Meta's DINOv2 and DINOv3, whose registers are ``register_tokens`` or ``storage_tokens``."""
    rules: Rules = [(tokens, "reg_token") for tokens in ("storage_tokens", "register_tokens")]
    rules += [
        (f"blocks.<i>.mlp.{theirs}.<*>", f"blocks.<i>.mlp.{ours}.<*>")
        for theirs, ours in (("w12", "fc1"), ("w3", "fc2"))
    ]
    rules += _same(("cls_token", "pos_embed", "patch_embed.proj.<*>", "norm.<*>", "blocks.<i>.<*>"))
    return KeyMap("Meta DINO", rules).dropping((*_ENDS, "rope_embed.<*>", "local_cls_norm.<*>"))


def eva() -> KeyMap:
    """Build the table of BAAI's EVA-02: pre-training, classifiers, and the backbone of its detectors."""
    rules: Rules = [("blocks.<i>.attn.inner_attn_ln.<*>", "blocks.<i>.attn.norm.<*>")]
    rules += [
        (f"blocks.<i>.mlp.{theirs}.<*>", f"blocks.<i>.mlp.{ours}.<*>")
        for theirs, ours in (("w12", "fc1"), ("ffn_ln", "norm"), ("w3", "fc2"))
    ]
    rules += _same(("cls_token", "pos_embed", "patch_embed.proj.<*>", "blocks.<i>.<*>"))
    dropped = ("norm.<*>", *_ENDS, *_ROTARY, "blocks.<i>.attn.rope.<*>")
    return KeyMap("EVA-02", rules).dropping(dropped)


def perception_encoder(prefix: str = "") -> KeyMap:
    """Build the table of Meta's Perception Encoder and its detectors' backbone; ``prefix`` is that of CLIP's files."""
    blocks = {
        **{f"ln_{n}.<*>": f"norm{n}.<*>" for n in (1, 2)},
        **{f"ls_{n}.gamma": f"ls{n}.gamma" for n in (1, 2)},
        **{f"attn.in_proj_{kind}": f"attn.qkv.{kind}" for kind in ("weight", "bias")},
        "attn.out_proj.<*>": "attn.proj.<*>",
        "mlp.c_fc.<*>": "mlp.fc1.<*>",
        "mlp.c_proj.<*>": "mlp.fc2.<*>",
    }
    rules: Rules = [(f"{prefix}transformer.resblocks.<i>.{key}", f"blocks.<i>.{ours}") for key, ours in blocks.items()]
    embeddings = {"conv1.<*>": "patch_embed.proj.<*>", "ln_pre.<*>": "norm_pre.<*>", "ln_post.<*>": "norm.<*>"}
    embeddings |= {"class_embedding": "cls_token", "positional_embedding": "pos_embed"}
    rules += [(f"{prefix}{key}", ours) for key, ours in embeddings.items()]
    text = ("transformer.<*>", "token_embedding.<*>", "positional_embedding", "ln_final.<*>", "text_projection")
    tables = (*_ROTARY, "transformer.resblocks.<i>.attn.rope.<*>")  # in detectors
    dropped = [f"{prefix}{key}" for key in ("attn_pool.<*>", "proj", *tables)]
    return KeyMap("Perception Encoder", rules).dropping([*dropped, *((*text, "logit_scale") if prefix else ())])


def transformers_dinov3() -> KeyMap:
    """Build the table of ``DINOv3ViTModel`` of transformers, version 4 and 5 (``model.layer``)."""
    blocks = {
        **{f"norm{n}.<*>": f"norm{n}.<*>" for n in (1, 2)},
        **{f"layer_scale{n}.lambda1": f"ls{n}.gamma" for n in (1, 2)},
        **{f"attention.{key}": f"attn.{key}" for key in ("qkv.<*>", "q_bias", "v_bias")},
        "attention.o_proj.<*>": "attn.proj.<*>",
        "mlp.up_proj.<*>": "mlp.fc1.<*>",
        "mlp.gate_up_proj.<*>": "mlp.fc1.<*>",
        "mlp.down_proj.<*>": "mlp.fc2.<*>",
    }
    rules: Rules = [
        (f"{prefix}layer.<i>.{key}", f"blocks.<i>.{ours}") for prefix in ("", "model.") for key, ours in blocks.items()
    ]
    rules += [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.register_tokens", "reg_token"),
        ("norm.<*>", "norm.<*>"),
    ]
    rules += [("embeddings.patch_embeddings.<*>", "patch_embed.proj.<*>")]
    return KeyMap("transformers DINOv3", rules).dropping(("embeddings.mask_token", "rope_embeddings.<*>"))


def transformers_dinov2() -> KeyMap:
    """Build the table of ``Dinov2Model`` and ``Dinov2WithRegistersModel`` of transformers, version 4 and 5."""
    blocks = {
        **{f"norm{n}.<*>": f"norm{n}.<*>" for n in (1, 2)},
        **{f"layer_scale{n}.lambda1": f"ls{n}.gamma" for n in (1, 2)},
        "attention.attention.qkv.<*>": "attn.qkv.<*>",
        "attention.output.dense.<*>": "attn.proj.<*>",
        "attention.qkv.<*>": "attn.qkv.<*>",
        "attention.o_proj.<*>": "attn.proj.<*>",
        **{f"mlp.fc{n}.<*>": f"mlp.fc{n}.<*>" for n in (1, 2)},
        "mlp.weights_in.<*>": "mlp.fc1.<*>",
        "mlp.weights_out.<*>": "mlp.fc2.<*>",
        "mlp.gate_up_proj.<*>": "mlp.fc1.<*>",
        "mlp.down_proj.<*>": "mlp.fc2.<*>",
    }
    rules: Rules = [(f"encoder.layer.<i>.{key}", f"blocks.<i>.{ours}") for key, ours in blocks.items()]
    embeddings = {"cls_token": "cls_token", "register_tokens": "reg_token", "position_embeddings": "pos_embed"}
    embeddings["patch_embeddings.projection.<*>"] = "patch_embed.proj.<*>"
    rules += [(f"embeddings.{key}", ours) for key, ours in embeddings.items()]
    return KeyMap("transformers DINOv2", [*rules, ("layernorm.<*>", "norm.<*>")]).dropping(("embeddings.mask_token",))


def transformers_siglip(prefix: str) -> KeyMap:
    """Build the table of transformers' ``SiglipVisionModel``, under ``prefix`` in files with a text model."""
    blocks = {
        **{f"layer_norm{n}.<*>": f"norm{n}.<*>" for n in (1, 2)},
        "self_attn.qkv.<*>": "attn.qkv.<*>",
        "self_attn.out_proj.<*>": "attn.proj.<*>",
        **{f"mlp.fc{n}.<*>": f"mlp.fc{n}.<*>" for n in (1, 2)},
    }
    rules: Rules = [(f"{prefix}encoder.layers.<i>.{key}", f"blocks.<i>.{ours}") for key, ours in blocks.items()]
    embeddings = {"patch_embedding.<*>": "patch_embed.proj.<*>", "position_embedding.weight": "pos_embed"}
    rules += [(f"{prefix}embeddings.{key}", ours) for key, ours in embeddings.items()]
    rules += [(f"{prefix}post_layernorm.<*>", "norm.<*>")]
    return KeyMap("transformers SigLIP", rules).dropping(
        (f"{prefix}head.<*>", "text_model.<*>", "logit_scale", "logit_bias")
    )


def foundation_layouts(num_blocks: int, depth: int, left_out: tuple[str, ...] = ()) -> tuple[KeyMap, ...]:
    """Collect the tables for a network that keeps the first ``num_blocks`` of ``depth`` blocks.

    ``left_out`` are our names of the embeddings and norms that the network lacks although it is published with them.
    """
    tables = (
        *(timm(), dino(), eva(), perception_encoder(), perception_encoder("visual.")),
        *(transformers_dinov3(), transformers_dinov2(), transformers_siglip("vision_model."), transformers_siglip("")),
    )
    return tuple(_without(table, num_blocks, depth, left_out) for table in tables)


def _without(table: KeyMap, num_blocks: int, depth: int, left_out: tuple[str, ...]) -> KeyMap:
    """Drop the foreign names of what the network does not have."""
    lists = {rule.theirs.partition("<i>")[0] for rule in table.rules if rule.theirs.partition("<i>")[1]}
    unused = [f"{blocks}{index}.<*>" for blocks in sorted(lists) for index in range(num_blocks, depth)]
    unused += [rule.theirs for rule in table.rules if rule.ours in left_out]
    return table.dropping(unused)
