"""Swin for MMDetection: with our own arguments, and as a drop-in for mmdet's ``SwinTransformer``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import backbones
from ...checks import booleans, integers, mapping, number, positive_int, positive_ints
from ...registry import MODELS
from .arguments import Cfg
from .init_cfg import LoadedBackbone

LAYER_NORM_EPS = 1e-5  # PyTorch's default, which mmcv keeps

# arguments of mmdet's class that no published Swin changes
FIXED: dict[str, Any] = {
    "patch_size": 4,
    "strides": [4, 2, 2, 2],
    "drop_rate": 0,
    "attn_drop_rate": 0,
    "act_cfg": {"type": "GELU"},
}


@MODELS.register_module()
class Swin(LoadedBackbone, backbones.Swin, BaseModule):
    """`fpn_plugins.Swin` with ``init_cfg``, which loads files and URLs of official releases, timm and mmdet."""


@MODELS.register_module()
class SwinTransformer(Swin):
    """`fpn_plugins.Swin` with the arguments of mmdet's ``SwinTransformer`` (``models/backbones/swin.py``).

    See mmdet for the arguments. Notes on some of them:

    - ``convert_weights`` is accepted and ignored: a file's layout is recognized.
    - ``pretrained`` is ``init_cfg=dict(type='Pretrained', checkpoint=...)``, as in mmdet.
    - ``compile``, which mmdet does not have, compiles in place, as for every class of this package.
    - ``use_abs_pos_embed`` resizes the embeddings to the image's grid; mmdet fails for all but one size.
    - Stages after the last of ``out_indices`` are left out; mmdet keeps them, unused.

    Raises:
        ValueError: a value that no published network uses and that is not implemented: another patch size, stride,
            activation than GELU or norm than LN, or dropout (stochastic depth is implemented); a ``pretrain_img_size``
            that is not one side or two equal ones; ``pretrained`` together with ``init_cfg``.
        TypeError: a ``pretrained`` that is not a string.
    """

    def __init__(
        self,
        pretrain_img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int = 4,
        window_size: int = 7,
        mlp_ratio: float = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        strides: Sequence[int] = (4, 2, 2, 2),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = False,
        act_cfg: Cfg = {"type": "GELU"},  # noqa: B006  (never changed)
        norm_cfg: Cfg = {"type": "LN"},  # noqa: B006  (never changed)
        with_cp: bool = False,
        pretrained: str | None = None,
        convert_weights: bool = False,
        frozen_stages: int = -1,
        init_cfg: Cfg | None = None,
        compile: bool | Cfg = False,
    ) -> None:
        positive_ints(in_channels=in_channels, embed_dims=embed_dims, window_size=window_size, patch_size=patch_size)
        integers("depths", depths)
        integers("num_heads", num_heads)
        booleans(use_abs_pos_embed=use_abs_pos_embed, with_cp=with_cp, convert_weights=convert_weights)
        _check_fixed(
            patch_size=patch_size,
            strides=list(integers("strides", strides)),
            drop_rate=number("drop_rate", drop_rate),
            attn_drop_rate=number("attn_drop_rate", attn_drop_rate),
            act_cfg=dict(mapping("act_cfg", act_cfg, "dict(type='GELU')")),
        )
        if pretrained is not None:
            if not isinstance(pretrained, str):
                raise TypeError(f"pretrained={pretrained!r} must be the path or URL of a file, or None")
            if init_cfg:
                raise ValueError(
                    f"pretrained={pretrained!r} and init_cfg={init_cfg!r} are mutually exclusive; choose one"
                )
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
        super().__init__(
            in_chans=in_channels,
            embed_dim=embed_dims,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            drop_path_rate=drop_path_rate,
            gradient_checkpointing=with_cp,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=None if qk_scale == 0 else qk_scale,  # mmdet takes 0 for the default too
            patch_norm=patch_norm,
            use_abs_pos=use_abs_pos_embed,
            pretrain_img_size=_square_side(pretrain_img_size),
            norm_eps=_norm_eps(norm_cfg),
            init_cfg=init_cfg,
            compile=compile,
        )


def _check_fixed(**given: Any) -> None:
    other = {key: value for key, value in given.items() if value != FIXED[key]}
    if other:
        wanted = {key: FIXED[key] for key in other}
        raise ValueError(f"fpn_plugins.SwinTransformer has no {other}; set {wanted}, or use mmdet's own class")


def _square_side(size: int | Sequence[int]) -> int:
    sides = [size] if hasattr(size, "__index__") else integers("pretrain_img_size", size)
    if len(sides) not in (1, 2) or len(set(sides)) != 1:
        raise ValueError(f"pretrain_img_size={size!r} must be one side, or two equal ones, in pixels, e.g. 224")
    return positive_int("pretrain_img_size", sides[0])


def _norm_eps(norm_cfg: Cfg) -> float:
    given = mapping("norm_cfg", norm_cfg, "dict(type='LN')")
    arguments = {"eps": LAYER_NORM_EPS, "requires_grad": True, "type": None, **given}
    if arguments.pop("type") != "LN" or not arguments.pop("requires_grad") or set(arguments) != {"eps"}:
        raise ValueError(f"norm_cfg={dict(norm_cfg)!r} must be dict(type='LN'), with eps or without")
    return float(arguments["eps"])
