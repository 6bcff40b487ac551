"""Foundation models' Vision Transformers (DINOv3, EVA-02, PE, DINOv2, SigLIP, ...): the layouts of timm -> ours.

Ours are timm's names, with ``ls1.gamma`` for ``gamma_1``, and with the three projections of queries, keys and values
and the two of a gated MLP in one layer each, as `fpn_plugins.weights.foundation_vit.join_layers` leaves them::

    cls_token   reg_token   pos_embed   patch_embed.proj.*   norm_pre.*
    blocks.<i>.{norm1,norm2}.*   blocks.<i>.{ls1,ls2}.gamma
    blocks.<i>.attn.{qkv,q_norm,k_norm,norm,proj}.*   blocks.<i>.attn.{q_bias,v_bias}
    blocks.<i>.mlp.{fc1,norm,fc2}.*   norm.*

Layers that classify, pool or reconstruct after the encoder are dropped.
"""

from ..key_map import KeyMap

_SAME = ("cls_token", "reg_token", "pos_embed", "patch_embed.proj.<*>", "norm_pre.<*>", "norm.<*>")
_TIMM_DROPPED = ("head.<*>", "fc_norm.<*>", "attn_pool.<*>", "rope.<*>")


def timm() -> KeyMap:
    """Build the table of timm's ``VisionTransformer`` and ``Eva``."""
    scales = [(f"blocks.<i>.gamma_{n}", f"blocks.<i>.ls{n}.gamma") for n in (1, 2)]
    rules = [*scales, *((key, key) for key in (*_SAME, "blocks.<i>.<*>"))]
    return KeyMap("timm ViT", rules).dropping(_TIMM_DROPPED)


def foundation_layouts(num_blocks: int, depth: int, left_out: tuple[str, ...] = ()) -> tuple[KeyMap, ...]:
    """Collect the tables for a network that keeps the first ``num_blocks`` of ``depth`` blocks.

    ``left_out`` are the embeddings that the network does not have although it is published with them.
    """
    unused = [f"blocks.{index}.<*>" for index in range(num_blocks, depth)]
    return tuple(table.dropping([*unused, *left_out]) for table in (timm(),))
