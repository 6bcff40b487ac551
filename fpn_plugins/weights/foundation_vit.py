"""Load foundation models' Vision Transformers: join layers, rename keys, resize tables and patches."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .input_channels import fit_channels
from .key_map import KeyMap
from .layouts import LoadHook, explain, left_out_of, logger
from .resize import PATCHES, are_filters, resize_patch_filters, resize_positions
from .shapes import check_shapes

# layers that code bases keep apart -> name of one layer that holds the rows of all, in this order
_JOINED = {
    ("q_proj", "k_proj", "v_proj"): "qkv",
    ("query", "key", "value"): "qkv",
    ("fc1_g", "fc1_x"): "fc1",
    ("w1", "w2"): "w12",
    ("gate_proj", "up_proj"): "gate_up_proj",
}
_TOKENS = ("cls_token", "reg_token", "pos_embed")


def accept_foundation_layouts(module: nn.Module, layouts: Sequence[KeyMap], position_rows: int) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) accept published weights of foundation models.

    - Separate projections are joined (`join_layers`), biases that keys do not have are left out (`split_biases`).
    - Keys are renamed by ``layouts``; a key that they do not explain is an error.
    - A class token whose position is a row of its own becomes the sum of both, if the module has no such row.
    - Position embeddings of another grid and patch filters of another size are resized as in timm, with a warning.

    Args:
        module: module to extend.
        layouts: tables to try.
        position_rows: rows of the module's ``pos_embed`` before those of the grid.

    Loading raises a ``ValueError`` that lists keys that do not fit, or keys with both shapes.
    """
    module._register_load_state_dict_pre_hook(_FoundationHook(layouts, position_rows), with_module=True)


@dataclass
class _FoundationHook(LoadHook):
    layouts: Sequence[KeyMap]
    position_rows: int

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        own, owner = module.state_dict(), f"{type(module).__name__} {getattr(module, 'name', '')!r}"
        weights = given
        if not set(weights) <= {*own, *left_out_of(module)}:
            separate = any(key.endswith("q_bias") for key in own)
            plain = split_biases(join_layers(weights), separate)
            found = explain(plain, own, self.layouts, left_out_of(module))
            if found is None:
                raise ValueError(
                    f"checkpoint is of another architecture than {owner}: it has {sorted(weights)[:4]}, ..., the "
                    f"model needs {sorted(own)[:4]}, ... (fpn_plugins.weights.strip_prefix selects a part)"
                )
            weights, report = found
            logger.info("%s: %s", owner, report)
        rows = {key: weights[key] for key in _TOKENS if key in weights and weights[key].dim()}
        weights = {**weights, **{key: value.reshape(1, -1, value.shape[-1]) for key, value in rows.items()}}
        if self.position_rows == 0:
            weights = _with_position_in_class_token(weights)
        fitted = {key: _fit(key, value, own.get(key), self.position_rows) for key, value in weights.items()}
        check_shapes(fitted, own, "Build the network as it was trained (name, embed_dim, num_heads, in_chans)")
        return fitted


def join_layers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy in which projections that code bases keep apart are one layer.

    Biases of queries and values alone become ``q_bias`` and ``v_bias`` beside the layer.
    """
    joined = dict(state_dict)
    for parts, whole in _JOINED.items():
        pattern = re.compile(rf"(?P<place>.*\.){parts[0]}\.(?P<kind>weight|bias)")
        for match in filter(None, map(pattern.fullmatch, state_dict)):
            place, kind = match["place"], match["kind"]
            keys = [f"{place}{part}.{kind}" for part in parts]
            if all(key in state_dict for key in keys):
                joined[f"{place}{whole}.{kind}"] = torch.cat([joined.pop(key) for key in keys])
            elif kind == "bias" and whole == "qkv" and keys[-1] in state_dict:
                joined[f"{place}q_bias"], joined[f"{place}v_bias"] = joined.pop(keys[0]), joined.pop(keys[-1])
    return joined


def split_biases(state_dict: Mapping[str, Tensor], separate: bool) -> dict[str, Tensor]:
    """Return a copy without biases of ``qkv`` that are zero: those of the keys, or all.

    DINOv3 publishes biases with a mask that hides those of the keys; in most of its files, the others are zero.

    Args:
        state_dict: keys of any code base.
        separate: whether the module has ``q_bias`` and ``v_bias``. Otherwise, biases that are all zero are left out
            where a mask says that the network has none for its keys.
    """
    split = dict(state_dict)
    for key in [key for key in state_dict if key.endswith("qkv.bias")]:
        mask = split.pop(f"{key}_mask", None)
        bias = state_dict[key] if mask is None else torch.where(mask == 0, 0, state_dict[key])
        queries, keys, values = bias.chunk(3)
        if separate and not keys.any():
            del split[key]
            place = key.removesuffix("qkv.bias")
            split[f"{place}q_bias"], split[f"{place}v_bias"] = queries, values
        elif mask is not None and not bias.any():
            del split[key]
    return split


def _with_position_in_class_token(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the first row of ``pos_embed`` to ``cls_token`` if the other rows form a square (DINOv2 with registers)."""
    table = weights.get("pos_embed")
    if table is None or table.dim() == 0 or _is_square(table.shape[1]) or not _is_square(table.shape[1] - 1):
        return dict(weights)
    token = {"cls_token": weights["cls_token"] + table[:, :1]} if "cls_token" in weights else {}
    return {**weights, **token, "pos_embed": table[:, 1:]}


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def _fit(key: str, value: Tensor, wanted: Tensor | None, position_rows: int) -> Tensor:
    if wanted is None or value.shape == wanted.shape:
        return value
    fitted = fit_channels(key, value, wanted, wanted.shape[1]) if key == PATCHES else value
    if key == "pos_embed" and value.dim() == 3 and value.shape[1] > position_rows:
        side = math.isqrt(wanted.shape[1] - position_rows)
        rows, grid = value[:, :position_rows], value[:, position_rows:]
        fitted = torch.cat([rows, resize_positions(grid, side, side, antialias=True).flatten(1, 2)], 1)
    elif key == PATCHES and are_filters(fitted, wanted):
        fitted = resize_patch_filters(fitted, wanted.shape[-1])
    if fitted.numel() != value.numel():
        logger.warning("%s resized from %s to %s", key, tuple(value.shape), tuple(fitted.shape))
    return fitted
