"""Sizes and parts of a plain Vision Transformer, as far as networks differ in them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...checks import boolean, divisor, integer, positive_int, positive_number
from ..sizes import hidden_channels
from .rotary import Rotary

# biases of queries, keys and values
NO_BIAS, ALL_BIASED, KEYS_UNBIASED = "none", "all", "queries and values"


class ViTDesign(NamedTuple):
    """Design of a plain Vision Transformer; the defaults are ViTDet's ViT-B.

    Attributes:
        patch_size: side of a patch in pixels.
        embed_dim: channels of a token.
        depth: number of blocks.
        num_heads: heads of the attention.
        hidden_dim: hidden channels of the MLPs.
        norm_eps: epsilon of all norms.
        qkv_bias: which of queries, keys and values have a bias: `NO_BIAS`, `ALL_BIASED` or `KEYS_UNBIASED`.
        use_abs_pos: learned position embeddings are added to the tokens.
        use_rel_pos: the attention has decomposed relative positions.
        pretrain_img_size: side in pixels of the images that the position embeddings are made for.
        position_rows: rows of the position embeddings before those of the grid.
        antialias_positions: position embeddings are low-passed when they are resized, as in timm.
        tile_positions: position embeddings are repeated for larger maps, not resized.
        sequence: the tokens are a sequence, which can start with a class token and registers, and can have rotary
            positions, as in foundation models; otherwise, they are a map, as in ViTDet.
        class_token: there is a class token.
        num_registers: number of register tokens.
        pre_norm: a norm follows the embeddings; the patch embedding has no bias then.
        final_norm: the maps have a norm.
        gated: the MLPs are SwiGLUs; otherwise, they have GELU.
        gelu: approximation of GELU, ``"none"`` or ``"tanh"``.
        mlp_norm: the MLPs have a norm before their second layer.
        attention_norm: the attention has a norm before its projection.
        qk_norm: queries and keys of each head have norms.
        layer_scale: initial factor of each branch's channels; ``None`` for branches without factors.
        rotary: rotary positions of queries and keys.
        zero_window_padding: windows of a map are padded with queries, keys and values of zero, not with zero tokens.
    """

    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    norm_eps: float = 1e-6
    qkv_bias: str = ALL_BIASED
    use_abs_pos: bool = True
    use_rel_pos: bool = True
    pretrain_img_size: int = 224
    position_rows: int = 1
    antialias_positions: bool = False
    tile_positions: bool = False
    sequence: bool = False
    class_token: bool = False
    num_registers: int = 0
    pre_norm: bool = False
    final_norm: bool = False
    gated: bool = False
    gelu: str = "none"
    mlp_norm: bool = False
    attention_norm: bool = False
    qk_norm: bool = False
    layer_scale: float | None = None
    rotary: Rotary | None = None
    zero_window_padding: bool = False

    @property
    def num_positions(self) -> int:
        """Rows of the position embeddings; 0 without any."""
        return self.use_abs_pos * ((self.pretrain_img_size // self.patch_size) ** 2 + self.position_rows)


# arguments of `ViT` that a named network decides
_DECIDED = ("qkv_bias", "use_abs_pos", "use_rel_pos", "pretrain_use_cls_token", "zero_window_padding")


def changed_design(design: ViTDesign, name: str | None, **given: Any) -> ViTDesign:
    """Replace the parts of a design that are given as arguments of `ViT`, those that are not ``None``.

    Args:
        design: design of the network ``name``, or of ViTDet for ``None``.
        name: see `ViT`.
        given: arguments of `ViT`.

    Raises:
        TypeError: a value of another type.
        ValueError: sizes that do not fit each other, or an argument that the network decides.
    """
    values = {key: value for key, value in given.items() if value is not None}
    decided = [key for key in _DECIDED if key in values]
    if name is not None and decided:
        raise ValueError(f"{decided[0]}={values[decided[0]]!r} is decided by name={name!r}; leave it out")
    for key in ("patch_size", "embed_dim", "depth", "num_heads", "pretrain_img_size"):
        if key in values:
            positive_int(key, values[key])
    if "embed_dim" in values or "mlp_ratio" in values:
        ratio = values.pop("mlp_ratio", design.hidden_dim / design.embed_dim)
        values["hidden_dim"] = hidden_channels(values.get("embed_dim", design.embed_dim), ratio)
    positive_number("norm_eps", values.get("norm_eps", design.norm_eps))
    for key in (*_DECIDED, "antialias_positions", "tile_positions"):
        if key in values:
            boolean(key, values[key])
    if "qkv_bias" in values:
        values["qkv_bias"] = ALL_BIASED if values["qkv_bias"] else NO_BIAS
    if "pretrain_use_cls_token" in values:
        values["position_rows"] = int(values.pop("pretrain_use_cls_token"))
    changed = design._replace(**values)
    if changed.tile_positions and not changed.use_abs_pos:
        raise ValueError("tile_positions=True repeats position embeddings, but the network has none; leave it out")
    check_side("pretrain_img_size", changed.pretrain_img_size, changed.patch_size)
    channels = changed.embed_dim // divisor("num_heads", changed.num_heads, changed.embed_dim, "channels of a token")
    if changed.rotary is not None and channels % 4:
        raise ValueError(
            f"num_heads={changed.num_heads} leaves {channels} channels per head, but rotary positions need a multiple "
            "of 4; change embed_dim or num_heads"
        )
    return changed


def check_side(argument: str, side: Any, patch_size: int) -> None:
    """Raise ``ValueError`` if ``side`` pixels are less than one patch, ``TypeError`` if they are no integer."""
    if integer(argument, side, 1) < patch_size:
        raise ValueError(f"{argument}={side} must be at least one patch of {patch_size} pixels")
