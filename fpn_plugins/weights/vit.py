"""Load plain Vision Transformers: rename keys, fold LayerScale, add detection's parameters, resize tables."""

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
from .resize import PATCHES, are_filters, resize_patch_filters, resize_positions, resize_relative_positions
from .shapes import check_shapes

# LayerScale's factor -> the layer whose output it scales (timm and DINOv2, then DeiT III)
_SCALED_LAYERS = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2", "gamma_1": "attn.proj", "gamma_2": "mlp.fc2"}
_GAMMA = re.compile(r"(?P<block>(?:.*\.)?blocks\.\d+\.)(?P<name>ls[12]\.gamma|gamma_[12])")
# parameters that detection adds to a pre-trained network; initially, they have no effect
_ADDED_BY_DETECTION = (".rel_pos_", ".residual.")


def accept_vit_layouts(module: nn.Module, layouts: Sequence[KeyMap], cls_position: bool) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) accept checkpoints of plain ViTs.

    - Keys are renamed by ``layouts``; a key that they do not explain is an error.
    - LayerScale is folded into the layer before it, which is exact: ``gamma * (W x + b) = (gamma W) x + gamma b``.
    - Relative positions and residual blocks keep their initial values if the checkpoint has none at all.
    - Tables of another grid and patch filters of another size are resized, with a warning.

    All of this needs the whole file. Detectron2's ``?matching_heuristics=True`` renames only the keys that end in names
    of the detector; `fpn_plugins.adapters.detectron2` adds LayerScale and tables of other sizes.

    Args:
        module: module to extend; its own keys are Detectron2's.
        layouts: tables to try.
        cls_position: whether the module's ``pos_embed`` has a first row for a class token.

    Loading raises a ``ValueError`` that lists keys that do not fit, or keys with both shapes.
    """
    module._register_load_state_dict_pre_hook(_ViTHook(layouts, cls_position), with_module=True)


@dataclass
class _ViTHook(LoadHook):
    layouts: Sequence[KeyMap]
    cls_position: bool

    def translate(self, module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        own, owner = module.state_dict(), type(module).__name__
        weights = _with_new_parameters(fold_layer_scale(given), own)
        if not set(weights) <= {*own, *left_out_of(module)}:
            found = explain(weights, own, self.layouts, left_out_of(module))
            if found is None:
                raise ValueError(
                    f"checkpoint is of another architecture than {owner}: it has {sorted(weights)[:4]}, ..., the "
                    f"model needs {sorted(own)[:4]}, ... (checkpoint=FILE or fpn_plugins.weights.read_checkpoint "
                    "unwraps a file's inner dict; fpn_plugins.weights.strip_prefix selects a detector's backbone)"
                )
            weights, report = found
            logger.info("%s: %s", owner, report)
        return fit_shapes(weights, own, self.cls_position)


def fold_layer_scale(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy with LayerScale's factors multiplied into the layers whose outputs they scale."""
    folded = dict(state_dict)
    for key, gamma in state_dict.items():
        match = _GAMMA.fullmatch(key)
        layer = f"{match['block']}{_SCALED_LAYERS[match['name']]}" if match else ""
        if f"{layer}.weight" not in state_dict:
            continue
        del folded[key]
        folded[f"{layer}.weight"] = state_dict[f"{layer}.weight"] * gamma[:, None]
        if f"{layer}.bias" in state_dict:
            folded[f"{layer}.bias"] = state_dict[f"{layer}.bias"] * gamma
    return folded


def _with_new_parameters(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the parameters that only detectors have, with the module's values, if no block of the checkpoint has them."""
    filled = dict(weights)
    for part in _ADDED_BY_DETECTION if any("blocks." in key for key in weights) else ():
        if not any(part in key for key in weights):
            filled.update({key: value for key, value in own.items() if part in key})
    return filled


def fit_shapes(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], cls_position: bool) -> dict[str, Tensor]:
    """Resize tables of another grid and patch filters of another size.

    Raises:
        ValueError: another tensor differs in shape; lists the keys with both shapes.
    """
    fitted = {key: _fit(key, value, own[key], cls_position) if key in own else value for key, value in weights.items()}
    check_shapes(fitted, own, "Build the module as it was trained (embed_dim, mlp_ratio, num_heads, in_chans)")
    return fitted


def _fit(key: str, value: Tensor, wanted: Tensor, cls_position: bool) -> Tensor:
    if value.shape == wanted.shape:
        return value
    fitted = fit_channels(key, value, wanted, wanted.shape[1]) if key == PATCHES else value
    if key == "pos_embed" and value.dim() in (3, 4):
        fitted = fit_position_embeddings(value, wanted.shape[1], cls_position)
    elif key == PATCHES and are_filters(fitted, wanted):
        fitted = resize_patch_filters(fitted, wanted.shape[-1])
    elif ".rel_pos_" in key:
        fitted = resize_relative_positions(value, wanted.shape[0])
    if fitted.numel() != value.numel():
        logger.warning("%s resized from %s to %s", key, tuple(value.shape), tuple(fitted.shape))
    return fitted


def fit_position_embeddings(table: Tensor, count: int, cls_position: bool) -> Tensor:
    """Resize a checkpoint's position embeddings to a table of ``count`` rows.

    Args:
        table: ``1 n C`` with zero, one (class token) or two (also DeiT's distillation token) rows before the grid's, or
            ``1 h w C`` (SAM).
        count: rows of the result, ``1 count C``.
        cls_position: whether its first row is for a class token; zero if the checkpoint has none.

    Raises:
        ValueError: the checkpoint's grid is not square.
    """
    table = table.flatten(1, -2)
    tokens = next((n for n in range(3) if math.isqrt(table.shape[1] - n) ** 2 == table.shape[1] - n), 0)
    side = math.isqrt(count - cls_position)
    grid = resize_positions(table[:, tokens:], side, side).flatten(1, 2)
    if not cls_position:
        return grid
    first = table[:, :1] if tokens else torch.zeros_like(table[:, :1])
    return torch.cat([first, grid], 1)
