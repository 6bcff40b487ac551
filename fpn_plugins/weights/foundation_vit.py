"""Load foundation models' Vision Transformers: join layers, rename keys, resize tables and patches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .key_map import KeyMap
from .layouts import LoadHook, explain, left_out_of, logger
from .resize import resize_patch_filters, resize_positions
from .shapes import check_shapes

# layers that code bases keep apart -> the layer of ours that holds the rows of all, in this order
_JOINED = {
    ("q_proj", "k_proj", "v_proj"): "qkv",
    ("fc1_g", "fc1_x"): "fc1",
}
_QUERIES, _, _VALUES = ("q_bias", "k_bias", "v_bias")


def accept_foundation_layouts(module: nn.Module, layouts: Sequence[KeyMap], position_rows: int) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) accept published weights of foundation models.

    - Separate projections are joined, see `join_layers`.
    - Keys are renamed by ``layouts``; a key that they do not explain is an error.
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
            found = explain(join_layers(weights), own, self.layouts, left_out_of(module))
            if found is None:
                raise ValueError(
                    f"checkpoint is of another architecture than {owner}: it has {sorted(weights)[:4]}, ..., the "
                    f"model needs {sorted(own)[:4]}, ..."
                )
            weights, report = found
            logger.info("%s: %s", owner, report)
        fitted = {key: _fit(key, value, own.get(key), self.position_rows) for key, value in weights.items()}
        check_shapes(fitted, own, "Build the network as it was trained (name, embed_dim, num_heads, in_chans)")
        return fitted


def join_layers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy in which separate projections are one layer; see `_JOINED`.

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
            elif kind == "bias" and keys[-1] in state_dict and len(keys) == 3:
                joined[f"{place}{_QUERIES}"], joined[f"{place}{_VALUES}"] = joined.pop(keys[0]), joined.pop(keys[-1])
    return joined


def _fit(key: str, value: Tensor, wanted: Tensor | None, position_rows: int) -> Tensor:
    if wanted is None or value.shape == wanted.shape:
        return value
    fitted = value
    if key == "pos_embed" and value.dim() == 3:
        side = round((wanted.shape[1] - position_rows) ** 0.5)
        rows, grid = value[:, :position_rows], value[:, position_rows:]
        fitted = torch.cat([rows, resize_positions(grid, side, side, antialias=True).flatten(1, 2)], 1)
    elif key == "patch_embed.proj.weight" and value.shape[:2] == wanted.shape[:2]:
        fitted = resize_patch_filters(value, wanted.shape[-1])
    if fitted.numel() != value.numel():
        logger.warning("%s resized from %s to %s", key, tuple(value.shape), tuple(fitted.shape))
    return fitted
