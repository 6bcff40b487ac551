"""Assign modules of a detector to components by the names used in this package and its peers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import nn


class Component(NamedTuple):
    """Component of a detector; ``part`` is ``"backbone"``, ``"neck"`` or ``"head"``."""

    part: str
    name: str


# names of the backbone inside a module of backbone and neck: Detectron2 and its ViTDet, torchvision, here
INNER_BACKBONES = ("bottom_up", "net", "body", "backbone")

# start of a neck's own names: alone, in a chain of necks, or inside RFP and PanopticFPN
OWN = r"^(\d+\.)*(fpn\.)?"
# the first pattern found in a module's name decides
NECK_ROLES = (
    (r"^semantic", "semantic branch"),
    (r"^(\d+\.)*(backbones|rfp_modules)", "further backbones"),
    (r"^(\d+\.)*((rfp_)?aspp|gate|rfp_weight)", "feedback"),
    (r"(coarser|same|finer|offset)_conv|spatial_conv|(scale|task)_att", "attention"),
    (r"extra_(levels|blocks|convs|layers|downsamples)|top_block", "extra levels"),
    (rf"{OWN}(layers|encoders)\b", "encoder"),
    (rf"{OWN}cell\b|^fpn\.c\d\d|fpn_transitions|fpn_stages", "merging cells"),
    (r"conv[357]x[357]|context|\.block\b|^(\d+\.)*detect\d", "blocks"),  # of SSH and YOLOv3
    (r"lateral_(conv|norm)|fpn_lateral|inner_blocks|reduc(e|tion)_(conv|layer)", "lateral convs"),
    (rf"{OWN}(input_|adapt_)?convs?\d?\b", "lateral convs"),
    (r"^(\d+\.)*(cells|paths)", "merging cells"),
    (r"resample|simfp_|deconv_layers", "resampling"),
    (r"top_down_blocks|upsample|fusions|after_merge", "top-down merges"),
    (r"downsample|bottom_up|pafpn_convs", "bottom-up path"),
    (r"out(put)?_conv|output_transition|fpn_output|fpn_conv|layer_blocks|mask_conv", "output convs"),
    (r"refine", "refinement"),
    (rf"{OWN}(\w*_)?(blocks|norms?|norm)\b", "blocks"),
    (r"^(fpn|[\d.]*)$", "merges"),  # the neck's own operations between its layers: resizing and additions
)
HEAD_ROLES = (
    (r"^(rpn_head|proposal_generator)", "RPN"),
    (r"mask_head|mask_pooler", "mask head"),
    (r"keypoint_head", "keypoint head"),
    (r"sem(antic|_seg)_head", "semantic head"),
    (r"^roi_heads?\b|shared_head", "box head"),
    (r"^(bbox_head|head)\b", "dense head"),
)


def component_namer(model: nn.Module) -> Callable[[str], Component]:
    """Make a function from module names to components, for a detector with ``backbone``, heads, and perhaps a neck."""
    prefix, network = _backbone(model)
    stages = {f"{prefix}.{inner}".rstrip("."): stage for inner, stage in _stages(network)}
    pyramid = "backbone." if prefix != "backbone" else "neck."
    laterals = len(getattr(getattr(model, "neck", None), "lateral_convs", ()))

    def is_extra(inside: str) -> bool:
        """Return whether a module is an extra level of mmdet's FPN, listed after the output convolutions."""
        found = re.match(r"fpn_convs\.(\d+)", inside)
        return found is not None and int(found[1]) >= laterals

    def name(module: str) -> Component:
        if module == prefix or module.startswith(f"{prefix}."):
            matching = [inner for inner in stages if module == inner or module.startswith(f"{inner}.")]
            return Component("backbone", stages[max(matching, key=len)] if matching else "other")
        if f"{module}.".startswith(pyramid) or module.startswith("neck"):
            inside = f"{module}.".removeprefix(pyramid).removeprefix("neck.").rstrip(".")
            return Component("neck", "extra levels" if is_extra(inside) else neck_role(inside))
        return Component("head", _role(module, HEAD_ROLES, module.split(".")[0] or "other"))

    return name


def neck_role(name: str) -> str:
    """Return the component of a neck's module by the module's name inside the neck (``""`` is the neck itself)."""
    return _role(name, NECK_ROLES, "other")


def _role(name: str, roles: tuple[tuple[str, str], ...], otherwise: str) -> str:
    return next((role for pattern, role in roles if re.search(pattern, name)), otherwise)


def _backbone(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the name and module of the backbone without a neck."""
    backbone = model.get_submodule("backbone")
    children = dict(backbone.named_children())
    inner = next((name for name in INNER_BACKBONES if name in children), None)
    if inner is None or len(children) == 1:  # a wrapper without a neck, e.g. an image pyramid
        return "backbone", backbone
    return f"backbone.{inner}", children[inner]


def _stages(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield module names with their stages: children that are or contain lists of blocks; those before are the stem."""
    prefix = ""
    while len(children := _computing(network)) == 1 and not _is_list(children[0][1]):
        name, network = children[0]
        prefix += f"{name}."
    found = False
    for name, child in children:
        if _is_list(child) and _holds_stages(name, child):
            yield from ((f"{prefix}{name}.{inner}", f"{name}.{inner}") for inner, _ in child.named_children())
            found = True
        elif _is_stage(child):
            yield f"{prefix}{name}", name
            found = True
        elif not found:
            yield f"{prefix}{name}", "stem"


def _computing(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """List the children that compute maps; norms of the output maps belong to no stage."""
    return [(name, child) for name, child in network.named_children() if name != "norms"]


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _is_stage(module: nn.Module) -> bool:
    return _is_list(module) or any(_is_list(child) for child in module.children())


def _holds_stages(name: str, modules: nn.Module) -> bool:
    return name in ("stages", "layers") or all(_is_list(module) for module in modules.children())
