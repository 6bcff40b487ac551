"""Weights of plain Vision Transformers: what is folded, filled in and resized when a checkpoint is loaded."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .key_map import KeyMap
from .layouts import explain
from .resize import resize_patch_filters, resize_positions, resize_relative_positions

logger = logging.getLogger("fpn_plugins")

# LayerScale's factor -> the layer whose output it scales (timm and DINOv2, then DeiT III)
_SCALED_LAYERS = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2", "gamma_1": "attn.proj", "gamma_2": "mlp.fc2"}
_GAMMA = re.compile(r"(?P<block>(?:.*\.)?blocks\.\d+\.)(?P<name>ls[12]\.gamma|gamma_[12])")
# what detection adds to a pre-trained network, and starts as if it were not there
_ADDED_BY_DETECTION = (".rel_pos_", ".residual.")


def accept_vit_layouts(
    module: nn.Module, layouts: Callable[[Iterable[str]], Sequence[KeyMap]], cls_position: bool
) -> None:
    """Let ``module.load_state_dict`` (and the toolboxes' loaders) take checkpoints of plain ViTs as they are.

    - Names go through ``layouts``; what they do not explain is an error.
    - LayerScale is folded into the layer before it, which is exact: ``gamma * (W x + b) = (gamma W) x + gamma b``.
    - Relative positions and residual blocks keep their initial values where the checkpoint has none at all.
    - Tables of another grid and patch filters of another size are resized, and a warning says so.

    All of this needs the whole file. Detectron2's ``?matching_heuristics=True`` hands on only the keys whose ends are
    names of the detector, so that LayerScale and tables of other sizes are left out before they come here: give such a
    file to the backbone's ``checkpoint`` instead.

    Args:
        module: its own keys are detectron2's, and what it saves.
        layouts: the tables to try for a set of keys.
        cls_position: whether the module's ``pos_embed`` has a first row for a class token.

    A ``ValueError`` while loading lists the keys, or the keys with both shapes.
    """
    module._register_load_state_dict_pre_hook(_ViTHook(layouts, cls_position), with_module=True)


class _ViTHook:
    """A load hook as an object, so that the module can be pickled and deep-copied."""

    def __init__(self, layouts: Callable[[Iterable[str]], Sequence[KeyMap]], cls_position: bool) -> None:
        self.layouts = layouts
        self.cls_position = cls_position

    def __call__(self, module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *unused: object) -> None:
        theirs = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
        if not theirs:
            return
        own = module.state_dict()
        weights = self._renamed(_with_new_parameters(fold_layer_scale(theirs), own), own, type(module).__name__)
        weights = fit_shapes(weights, own, self.cls_position)
        for key in theirs:
            del state_dict[prefix + key]
        state_dict.update({prefix + key: value for key, value in weights.items()})

    def _renamed(self, weights: dict[str, Tensor], own: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
        if set(weights) <= set(own):
            return weights
        found = explain(weights, own, self.layouts(weights))
        if found is None:
            raise ValueError(
                f"checkpoint is of another architecture than {owner}: it holds {sorted(weights)[:4]}, ..., the model "
                f"needs {sorted(own)[:4]}, ... (a file's inner dict is unwrapped by checkpoint=FILE or "
                "fpn_plugins.weights.read_checkpoint; of a whole detector, pass the backbone's part: "
                "fpn_plugins.weights.strip_prefix)"
            )
        logger.info("%s: %s", owner, found[1])
        return found[0]


def fold_layer_scale(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply the factors of LayerScale into the layers whose outputs they scale; without any, a copy of the dict."""
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
    """Add what detection adds, with its present values, where the checkpoint has blocks that know nothing of it."""
    filled = dict(weights)
    for part in _ADDED_BY_DETECTION if any("blocks." in key for key in weights) else ():
        if not any(part in key for key in weights):
            filled.update({key: value for key, value in own.items() if part in key})
    return filled


def fit_shapes(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], cls_position: bool) -> dict[str, Tensor]:
    """Resize what belongs to another grid or patch size.

    Raises:
        ValueError: other shapes differ; lists the keys with both shapes.
    """
    fitted = {key: _fit(key, value, own[key], cls_position) if key in own else value for key, value in weights.items()}
    wrong = [key for key in own if key in fitted and fitted[key].shape != own[key].shape]
    if wrong:
        shown = ", ".join(f"{key} {tuple(fitted[key].shape)} for {tuple(own[key].shape)}" for key in wrong[:8])
        raise ValueError(
            f"checkpoint has {len(wrong)} tensors of another shape: {shown}. Build the module as it was trained "
            "(embed_dim, mlp_ratio, num_heads, in_chans)"
        )
    return fitted


def _fit(key: str, value: Tensor, wanted: Tensor, cls_position: bool) -> Tensor:
    if value.shape == wanted.shape:
        return value
    fitted = value
    if key == "pos_embed":
        fitted = fit_position_embeddings(value, wanted.shape[1], cls_position)
    elif key == "patch_embed.proj.weight" and value.shape[:2] == wanted.shape[:2]:
        fitted = resize_patch_filters(value, wanted.shape[-1])
    elif ".rel_pos_" in key:
        fitted = resize_relative_positions(value, wanted.shape[0])
    if fitted.numel() != value.numel():
        logger.warning("%s resized from %s to %s", key, tuple(value.shape), tuple(fitted.shape))
    return fitted


def fit_position_embeddings(table: Tensor, count: int, cls_position: bool) -> Tensor:
    """Position embeddings of a checkpoint for a table of ``count`` rows.

    Args:
        table: ``1 n C`` with none, one (class token) or two (and DeiT's distillation token) rows before the grid's, or
            ``1 h w C`` (SAM).
        count: rows of the wanted table.
        cls_position: whether the wanted table has a first row for a class token; zero where the checkpoint has none.

    Returns:
        ``1 count C``.

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
