"""Weights without a table: pair two implementations of one architecture by the order of their tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def pair_by_order(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename ``source`` to the keys of ``target`` by position, checking every shape.

    Most ports of a network define their layers in the order in which they run, so that the tensors line up although
    every name differs. Where the order differs, the shapes differ at the next change of width at the latest. Two
    swapped layers of equal shape go unnoticed, so check the accuracy of the result.

    Args:
        source: state dict of the other implementation.
        target: state dict of ours.

    Returns:
        The renamed dict, and the keys left over at the end of ``source`` (usually a classifier).

    Raises:
        ValueError: ``source`` is too short, or a pair of tensors differs in shape; names both.
    """
    if len(source) < len(target):
        raise ValueError(f"the checkpoint has {len(source)} tensors, the model needs {len(target)}")
    names = list(source)
    renamed: dict[str, Tensor] = {}
    for (key, wanted), name in zip(target.items(), names, strict=False):
        if source[name].shape != wanted.shape:
            raise ValueError(
                f"tensor {len(renamed)} does not fit: {name!r} is {tuple(source[name].shape)}, "
                f"{key!r} needs {tuple(wanted.shape)}; the checkpoint is of another architecture"
            )
        renamed[key] = source[name]
    return renamed, names[len(target) :]
