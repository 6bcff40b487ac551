"""Mask2Former's pixel decoder for MMDetection's heads, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import boolean, integer, integers, mapping, positive_int, shown
from ...registry import MODELS
from .arguments import Cfg, act_factory, norm_factory
from .init_cfg import SafeInit

# the encoder's arguments that make another network than the core's, with the only value that fits
ATTENTION = {"im2col_step": None, "batch_first": True, "norm_cfg": None, "init_cfg": None, "value_proj_ratio": 1.0}
FFN = {"num_fcs": 2, "add_identity": True, "init_cfg": None, "dropout_layer": None}
POSITIONS = {"normalize": True, "temperature": 10000, "offset": 0.0, "init_cfg": None}
# mmdet's own defaults
NORM = {"type": "GN", "num_groups": 32}
RELU = {"type": "ReLU"}
POSITIONAL_ENCODING = {"num_feats": 128, "normalize": True}


@MODELS.register_module()
class MSDeformAttnPixelDecoder(SafeInit, necks.MSDeformAttnPixelDecoder, BaseModule):
    """Drop-in for mmdet's ``MSDeformAttnPixelDecoder`` (``models/layers/msdeformattn_pixel_decoder.py``).

    It belongs in the ``pixel_decoder`` of Mask2Former's heads, whose checkpoints load as they are.

    Args:
        in_channels, out_channels, num_outs, norm_cfg, act_cfg, init_cfg: see mmdet; ``out_channels`` are those of the
            mask map.
        strides: unused, the places of the cells follow from the sizes of the maps; one entry per map.
        feat_channels: channels of the levels.
        encoder: ``dict(num_layers=..., layer_cfg=dict(self_attn_cfg=..., ffn_cfg=...))``; ``num_cp`` layers are
            recomputed in backward.
        positional_encoding: only ``dict(num_feats=feat_channels // 2, normalize=True)``.
        as_neck: whether ``forward`` returns what necks return, the mask map and the levels, high to low resolution, in
            one tuple. By default it returns mmdet's pair: the mask map, and the list of levels, low to high resolution.
        more: further arguments of the core class.

    Raises:
        ValueError: an encoder or encoding that the core class does not have; names the argument.
    """

    default_prefix = "panoptic_head.pixel_decoder."

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024, 2048),
        strides: Sequence[int] = (4, 8, 16, 32),
        feat_channels: int = 256,
        out_channels: int = 256,
        num_outs: int = 3,
        norm_cfg: Cfg | None = NORM,  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = RELU,  # noqa: B006  (copied, never changed)
        encoder: Cfg | None = None,
        positional_encoding: Cfg = POSITIONAL_ENCODING,  # noqa: B006  (never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        as_neck: bool = False,
        **more: Any,
    ) -> None:
        _check_positions(positional_encoding, positive_int("feat_channels", feat_channels))
        if len(integers("strides", strides, 1)) < len(integers("in_channels", in_channels)):
            raise ValueError(f"strides={shown(strides)} must have one entry for each of the {len(in_channels)} maps")
        super().__init__(
            in_channels,
            feat_channels,
            mask_channels=positive_int("out_channels", out_channels),
            num_outs=num_outs,
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            **{**_encoder(encoder, feat_channels), **more},
        )
        self.as_neck = boolean("as_neck", as_neck)
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Initialize as mmdet's class does, then apply ``init_cfg``."""
        self.init_decoder()
        super().init_layers()

    def forward(self, feats: Sequence[Tensor]) -> Any:
        """Return mmdet's pair, or the tuple of a neck; see ``as_neck``."""
        mask, *levels = super().forward(feats)
        return (mask, *levels) if self.as_neck else (mask, levels[::-1])


def _encoder(encoder: Cfg | None, channels: int) -> dict[str, Any]:
    """Translate mmdet's ``encoder``; without one, its configs' values (the core's defaults) hold."""
    if encoder is None:
        return {}
    given = dict(mapping("encoder", encoder, "dict(num_layers=6, layer_cfg=dict(...))"))
    layer = dict(mapping("encoder.layer_cfg", given.pop("layer_cfg", {}), "dict(self_attn_cfg=..., ffn_cfg=...)"))
    attention = _without("self_attn_cfg", layer.pop("self_attn_cfg", {}), channels, ATTENTION)
    ffn = _without("ffn_cfg", layer.pop("ffn_cfg", {}), channels, FFN)
    found = {
        "num_layers": given.pop("num_layers", 6),
        "num_heads": attention.pop("num_heads", 8),
        "num_encoder_levels": attention.pop("num_levels", 4),
        "num_points": attention.pop("num_points", 4),
        "ffn_channels": ffn.pop("feedforward_channels", 1024),
        "ffn_act": act_factory(ffn.pop("act_cfg", RELU)),
        "gradient_checkpointing": integer("encoder.num_cp", given.pop("num_cp", -1), -1) > 0,
    }
    rates = {attention.pop("dropout", 0.1), ffn.pop("ffn_drop", 0.0)}
    layer.pop("norm_cfg", None) if layer.get("norm_cfg") == {"type": "LN"} else None
    left = [*given, *layer, *attention, *ffn]
    if left or len(rates) > 1:
        what = f"arguments {left}" if left else f"dropout and ffn_drop that differ, {sorted(rates)}"
        raise ValueError(f"encoder has {what}, which this class does not have; use mmdet.MSDeformAttnPixelDecoder")
    return {**found, "dropout": rates.pop()}


def _without(argument: str, config: Any, channels: int, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without the entries that have the only value that fits; others stay, and are refused."""
    found = dict(mapping(f"encoder.{argument}", config, "dict(embed_dims=256)"))
    for key, value in {**fixed, "embed_dims": channels}.items():
        if key in found and (found[key] == value or key == "im2col_step"):
            del found[key]
    return found


def _check_positions(config: Any, channels: int) -> None:
    given = dict(mapping("positional_encoding", config, "dict(num_feats=128, normalize=True)"))
    wrong = {key: value for key, value in given.items() if value != {**POSITIONS, "num_feats": channels // 2}.get(key)}
    if wrong or not given.get("normalize"):
        raise ValueError(
            f"positional_encoding={shown(given)} must be dict(num_feats={channels // 2}, normalize=True), half of "
            "feat_channels; use mmdet.MSDeformAttnPixelDecoder for others"
        )
