"""Convert whole detectors from one toolbox to the other, or between a toolbox's own modules and this package's.

Keys of the checkpoint and of the target detector are translated to common names (`tables`), by which values are
assigned. A result is complete: every parameter of the target has a value of its shape, and every value of the
checkpoint was assigned or deliberately dropped; otherwise there is an error and no result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..weights.foundation_vit import join_layers
from ..weights.key_map import KeyMap, Transform
from ..weights.layouts import adapter_hint
from .heads import anchors_per_cell, match_mask_heads
from .tables import PARTS, Tables, containers, head_table, toolbox_of_keys

COUNTER = "num_batches_tracked"


class Place(NamedTuple):
    """Common name of a key (``None`` if deliberately dropped), and the transform of its value to the common one."""

    name: str | None
    transform: Transform | None = None

    def to_common(self, value: Tensor) -> Tensor:
        """Transform a toolbox's value to the common one."""
        return self.transform.to_ours(value) if self.transform else value

    def from_common(self, value: Tensor) -> Tensor:
        """Transform a common value to the toolbox's."""
        return self.transform.to_theirs(value) if self.transform else value


@dataclass
class Conversion:
    """Outcome for every key.

    Attributes:
        source: toolbox of the checkpoint.
        target: toolbox of the result.
        matched: key of the target -> key of the checkpoint.
        transformed: key of the target -> names of the transforms applied to its value.
        dropped: keys of the checkpoint that the target computes itself, or that hold no weights.
        restarted: counters of the target that the checkpoint does not have; they start at zero.
        computed: keys of the target that its architecture determines; they keep their values.
    """

    source: str
    target: str
    matched: dict[str, str] = field(default_factory=dict)
    transformed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)

    @property
    def renamed(self) -> dict[str, str]:
        """Return the matched keys whose name differs between target and checkpoint."""
        return {key: theirs for key, theirs in self.matched.items() if key != theirs}

    def __str__(self) -> str:
        lines = [f"{self.source} -> {self.target}: {len(self.matched)} keys matched, {len(self.renamed)} renamed"]
        for name in ("transformed", "dropped", "restarted", "computed"):
            if keys := getattr(self, name):
                lines.append(f"{len(keys)} {name}: {_listed(keys)}")
        return "; ".join(lines)


def convert(
    state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor], num_ratios: int = 3, mask_stage: int | None = None
) -> tuple[dict[str, Tensor], Conversion]:
    """Convert a detector's weights to the keys and layout of another detector, each of either toolbox.

    Args:
        state_dict: keys and values of the checkpoint; direction and architecture are recognized from the keys.
        target: state dict of the target detector, as built from its config. Only shapes are read, and values that the
            architecture determines, such as Swin's index of relative positions.
        num_ratios: number of aspect ratios of both detectors' anchors (`DetectorFacts.num_ratios`).
        mask_stage: stage whose mask head is used when mmdet's Cascade Mask R-CNN, which averages one per stage, is
            converted to Detectron2, which has only one; with ``None``, the heads must be equal.

    Returns:
        A state dict with exactly the target's keys, and the `Conversion`.

    Raises:
        ValueError: keys or parameters are left over, shapes differ (another number of classes), or this is no detector
            of either toolbox; lists them.
    """
    state_dict = join_layers(state_dict)
    conversion = Conversion(toolbox_of_keys(state_dict), toolbox_of_keys(target))
    _check_anchors(state_dict, target)
    found = places(state_dict, num_ratios)
    target_places = places(target, num_ratios)
    wanted = {place.name: key for key, place in target_places.items() if place.name is not None}
    values, origin = _common(state_dict, found, conversion)
    match_mask_heads(values, origin, wanted.keys(), mask_stage)
    conversion.dropped += _drop_counters(values, origin, wanted)
    _check_names(values, origin, wanted)
    result = {key: target[key].cpu().clone() for key, place in target_places.items() if place.name is None}
    conversion.computed += list(result)
    for name, key in wanted.items():
        if name not in values:
            result[key] = torch.zeros_like(target[key], device="cpu")
            conversion.restarted.append(key)
            continue
        place = target_places[key]
        result[key] = place.from_common(values[name]).contiguous()
        conversion.matched[key] = origin[name]
        changes = [change.name for change in (found[origin[name]].transform, place.transform) if change]
        if changes and conversion.source != conversion.target:
            conversion.transformed[key] = ", ".join(changes)
    _check_shapes(result, target, conversion)
    return result, conversion


def places(shapes: Mapping[str, Tensor], num_ratios: int = 3) -> dict[str, Place]:
    """Find the common name of every key of a detector.

    Raises:
        ValueError: no table explains some keys; lists them.
    """
    toolbox = toolbox_of_keys(shapes)
    body = [key for key in shapes if key.startswith(("backbone.", "neck."))]
    table = containers(toolbox, body)
    inside = {key: table.find(key)[1] or "" for key in body}
    found: dict[str, Place] = {}
    for part, tables in PARTS.items():
        keys = {key: name.removeprefix(f"{part}.") for key, name in inside.items() if name.startswith(f"{part}.")}
        for key, place in zip(keys, _part(list(keys.values()), tables).values(), strict=True):
            found[key] = place if place.name is None else place._replace(name=f"{part}.{place.name}")
    heads = head_table(toolbox, shapes, anchors_per_cell(shapes), num_ratios)
    rest = [key for key in shapes if key not in found]
    found.update(_explained(rest, heads))
    if unexplained := [key for key in rest if key not in found]:
        raise ValueError(f"{toolbox} detector: no rule for {len(unexplained)} keys: {_listed(unexplained)}")
    return found


def _part(keys: list[str], tables: Tables) -> dict[str, Place]:
    """Find places of a backbone's or a neck's keys by the first table with rules for all, for each of several necks."""
    children = {key.split(".")[0] for key in keys}
    if children and all(child.isdigit() for child in children):
        found: dict[str, Place] = {}
        for child in children:
            inner = [key.partition(".")[2] for key in keys if key.startswith(f"{child}.")]
            for key, place in _part(inner, tables).items():
                found[f"{child}.{key}"] = place._replace(name=place.name and f"{child}.{place.name}")
        return {key: found[key] for key in keys}
    for table in tables(keys):
        explained = _explained(keys, table)
        if len(explained) == len(keys):
            return explained
    raise ValueError(f"no table explains {_listed(keys)}")


def _explained(keys: Iterable[str], table: KeyMap) -> dict[str, Place]:
    """Find the places of the keys for which the table has a rule."""
    found = {}
    for key in keys:
        rule, name = table.find(key)
        if rule is not None:
            found[key] = Place(name, rule.transform)
    return found


def _check_anchors(state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    have, want = anchors_per_cell(state_dict), anchors_per_cell(target)
    if have != want:
        raise ValueError(
            f"the checkpoint predicts for {have} anchors per cell, the target for {want}; set the target config's "
            "anchors to those that the checkpoint was trained with"
        )


def _common(
    state_dict: Mapping[str, Tensor], found: Mapping[str, Place], conversion: Conversion
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Collect values by common name, and the original key of each."""
    values: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, value in state_dict.items():
        place = found[key]
        if place.name is None:
            conversion.dropped.append(key)
            continue
        if place.name in origin:
            raise ValueError(f"two keys become {place.name!r}: {origin[place.name]!r} and {key!r}")
        values[place.name], origin[place.name] = place.to_common(value), key
    return values, origin


def _drop_counters(values: dict[str, Tensor], origin: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Remove step counters of batch norms, which Detectron2's frozen norms lack; return their keys."""
    names = [name for name in values if name not in wanted and name.endswith(COUNTER)]
    for name in names:
        del values[name]
    return [origin[name] for name in names]


def _check_names(values: Mapping[str, Tensor], origin: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Check that no key is left over on either side."""
    left_over = [origin[name] for name in values if name not in wanted]
    missing = [key for name, key in wanted.items() if name not in values and not name.endswith(COUNTER)]
    if left_over or missing:
        raise ValueError(
            "the checkpoint is of another architecture than the target, nothing was converted: "
            f"{len(left_over)} keys have no place in it: {_listed(left_over)}; "
            f"{len(missing)} parameters of the target got no value: {_listed(missing)}{adapter_hint(left_over)}"
        )


def _check_shapes(result: Mapping[str, Tensor], target: Mapping[str, Tensor], conversion: Conversion) -> None:
    wrong = [
        f"{conversion.matched.get(key, key)!r} is {tuple(value.shape)}, {key!r} needs {tuple(target[key].shape)}"
        for key, value in result.items()
        if value.shape != target[key].shape
    ]
    if wrong:
        classes = any(re.search(r"cls|logits|predictor|fc_reg|bbox_pred", line) for line in wrong)
        hint = "; set the target config's number of classes to the checkpoint's" if classes else ""
        raise ValueError(f"{len(wrong)} shapes differ{hint}: {'; '.join(wrong[:6])}")


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:6]) + (f", ... ({len(keys) - 6} more)" if len(keys) > 6 else "") if keys else "none"
