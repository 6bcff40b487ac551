"""ViTAdapter: the layout of ViT-Adapter (``backbone`` of its detectors) -> ours.

Ours, with ``k`` the position of a convolution or a map from the highest resolution::

    prior.stem.<k>.{conv,norm}.*    prior.convs.<k>.{conv,norm}.*    prior.projections.<k>.*    level_embed
    interactions.<i>.injector.{query_norm,feat_norm,attn}.*          interactions.<i>.injector.gamma
    interactions.<i>.extractors.<j>.{query_norm,feat_norm,attn,ffn,ffn_norm}.*
    up.*    norms.<k>.*    vit.*
"""

from ..key_map import KeyMap

# convolution and norm of the stem's steps, after each of which there is an activation
_STEM = [(f"stem.{3 * k + place}", f"stem.{k}.{part}") for k in range(3) for place, part in ((0, "conv"), (1, "norm"))]
_CONVS = [(f"conv{k + 2}.{place}", f"convs.{k}.{part}") for k in range(3) for place, part in ((0, "conv"), (1, "norm"))]


def published() -> KeyMap:
    """Redirect the parts of the authors' ``ViTAdapter``, which is a ViT itself, to ours."""
    rules = [(f"spm.{theirs}.<*>", f"prior.{ours}.<*>") for theirs, ours in (*_STEM, *_CONVS)]
    rules += [(f"spm.fc{k + 1}.<*>", f"prior.projections.{k}.<*>") for k in range(4)]
    for theirs, ours in (("extractor", "extractors.0"), ("extra_extractors.<j>", "extractors.<j+1>")):
        prefix, own = f"interactions.<i>.{theirs}", f"interactions.<i>.{ours}"
        rules += [(f"{prefix}.ffn.dwconv.dwconv.<*>", f"{own}.ffn.dwconv.<*>"), (f"{prefix}.<*>", f"{own}.<*>")]
    rules += [(key, key) for key in ("interactions.<i>.injector.<*>", "level_embed", "up.<*>")]
    rules += [(f"norm{k + 1}.<*>", f"norms.{k}.<*>") for k in range(4)]
    rules += [(f"blocks.<i>.gamma{n}", f"vit.blocks.<i>.ls{n}.gamma") for n in (1, 2)]
    rules += [(f"{key}<*>", f"vit.{key}<*>") for key in ("blocks.", "patch_embed.")]
    rules += [(key, f"vit.{key}") for key in ("pos_embed", "cls_token", "reg_token")]
    return KeyMap("ViT-Adapter", rules)
