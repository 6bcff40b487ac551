"""Plain Vision Transformers: the layouts of detectron2, mmdet, timm, DeiT, MAE, DINOv2 and SAM -> ours.

Ours are detectron2's names::

    patch_embed.proj.*   pos_embed
    blocks.<i>.{norm1,norm2}.*   blocks.<i>.attn.{qkv,proj}.*   blocks.<i>.attn.rel_pos_{h,w}
    blocks.<i>.mlp.{fc1,fc2}.*   blocks.<i>.residual.*

Most others call these the same and hold more: what classifies, reconstructs or decodes behind the encoder is dropped,
and so is the class token, as ViTDet does. Registers, norms of queries and keys, gated MLPs and rotary positions change
what the blocks compute and are not in the tables, so that their checkpoints are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap

# behind the encoder, or its class token: timm and DeiT; DINOv2; MAE; timm's SAM
_DROPPED = (
    *("cls_token", "dist_token", "norm.<*>", "fc_norm.<*>", "pre_logits.<*>", "head.<*>", "head_dist.<*>"),
    "mask_token",
    *("decoder_pos_embed", "decoder_embed.<*>", "decoder_blocks.<*>", "decoder_norm.<*>", "decoder_pred.<*>"),
    "neck.<*>",
)
# of SAM's whole model
_SAM_DROPPED = ("prompt_encoder.<*>", "mask_decoder.<*>", "pixel_mean", "pixel_std")


def plain(unused_blocks: Iterable[int] = ()) -> KeyMap:
    """detectron2's names, with whatever follows the encoder elsewhere; ``unused_blocks`` are dropped too."""
    rules: list[tuple[str, str | None]] = [(f"blocks.{index}.<*>", None) for index in unused_blocks]
    rules += [(key, key) for key in ("patch_embed.proj.<*>", "pos_embed", "blocks.<i>.<*>")]
    return KeyMap("plain ViT", [*rules, *((key, None) for key in _DROPPED)])


def sam(prefix: str, unused_blocks: Iterable[int] = ()) -> KeyMap:
    """SAM's own names of the image encoder, whose MLPs are ``lin1`` and ``lin2``, under ``prefix``."""
    rules: list[tuple[str, str | None]] = [(f"{prefix}blocks.{index}.<*>", None) for index in unused_blocks]
    rules += [(f"{prefix}blocks.<i>.mlp.lin{n}.<*>", f"blocks.<i>.mlp.fc{n}.<*>") for n in (1, 2)]
    rules += [(f"{prefix}{key}", key) for key in ("patch_embed.proj.<*>", "pos_embed", "blocks.<i>.<*>")]
    return KeyMap("SAM", [*rules, *((key, None) for key in (f"{prefix}neck.<*>", *_SAM_DROPPED))])


class ViTLayouts:
    """The tables to try for a plain ViT that has the first ``num_blocks`` of its ``depth`` blocks."""

    def __init__(self, num_blocks: int, depth: int) -> None:
        self.unused_blocks = range(num_blocks, depth)

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """The same tables for all keys."""
        unused = self.unused_blocks
        return [plain(unused), sam("image_encoder.", unused), sam("", unused)]
