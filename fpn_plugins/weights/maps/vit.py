"""Plain Vision Transformers: the layouts of Detectron2, mmdet, timm, DeiT, MAE, DINOv2 and SAM -> ours.

Ours are Detectron2's names::

    patch_embed.proj.*   pos_embed
    blocks.<i>.{norm1,norm2}.*   blocks.<i>.attn.{qkv,proj}.*   blocks.<i>.attn.rel_pos_{h,w}
    blocks.<i>.mlp.{fc1,fc2}.*   blocks.<i>.residual.*

Most others use the same names and store more: layers that classify, reconstruct or decode after the encoder are
dropped, and so is the class token, as in ViTDet. Registers, norms of queries and keys, gated MLPs and rotary positions
change what the blocks compute; no table here has them, so their checkpoints are refused: see ``foundation_vit.py``.
"""

from ..key_map import KeyMap

_ENCODER = ("patch_embed.proj.<*>", "pos_embed", "blocks.<i>.<*>")
# class token and layers after the encoder, in timm and DeiT, DINOv2, MAE, and timm's SAM
_DROPPED = (
    *("cls_token", "dist_token", "norm.<*>", "fc_norm.<*>", "pre_logits.<*>", "head.<*>", "head_dist.<*>"),
    "mask_token",
    *("decoder_pos_embed", "decoder_embed.<*>", "decoder_blocks.<*>", "decoder_norm.<*>", "decoder_pred.<*>"),
    "neck.<*>",
)
# rest of SAM's full model
_SAM_DROPPED = ("prompt_encoder.<*>", "mask_decoder.<*>", "pixel_mean", "pixel_std")


def plain() -> KeyMap:
    """Build the table of Detectron2's names; layers after the encoder are dropped."""
    return KeyMap("plain ViT", [(key, key) for key in _ENCODER]).dropping(_DROPPED)


def sam(prefix: str) -> KeyMap:
    """Build the table of SAM's own image encoder, whose MLPs are ``lin1`` and ``lin2``, under ``prefix``."""
    rules = [(f"{prefix}blocks.<i>.mlp.lin{n}.<*>", f"blocks.<i>.mlp.fc{n}.<*>") for n in (1, 2)]
    rules += [(f"{prefix}{key}", key) for key in _ENCODER]
    return KeyMap("SAM", rules).dropping([f"{prefix}neck.<*>", *_SAM_DROPPED])


def vit_layouts(num_blocks: int, depth: int) -> tuple[KeyMap, ...]:
    """Collect the tables for a plain ViT that keeps the first ``num_blocks`` of ``depth`` blocks."""
    prefixes = ("", "image_encoder.")
    unused = [f"{prefix}blocks.{index}.<*>" for prefix in prefixes for index in range(num_blocks, depth)]
    return tuple(table.dropping(unused) for table in (plain(), *map(sam, prefixes)))
