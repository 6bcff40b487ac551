"""Parts of a feature pyramid grid: its graph, its transitions and its nodes; see ``fpg.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..checks import integer, integers, one_of, positive_int, sequence, shown
from ..layers import ConvNormAct
from ..ops.tracing import traced
from .graph import Graph, Node

DIRECTIONS = ("bottom_up", "top_down")
# levels by which the map that a transition reads is coarser than its result
STEPS = {"same_up": -1, "same_down": 1, "across_lateral": 0, "across_down": 1, "across_up": -1, "across_skip": 0}
ORDERS = (("conv", "norm", "act"), ("act", "conv", "norm"), ("conv", "act", "norm"))

TransitionFactory = Callable[[int, int, int], nn.Module]
Transition = int | str | TransitionFactory


class OrderedConv(ConvNormAct):
    """Convolution, norm and activation in another order.

    Args:
        order: one of ``ORDERS``; the default is that of pre-activation.
        *args, **kwargs: arguments of `ConvNormAct`.
    """

    def __init__(self, *args: Any, order: Sequence[str] = ORDERS[1], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = tuple(order)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B C_in H W`` to ``B C_out ceil(H / stride) ceil(W / stride)``."""
        for part in self.order:
            layer = getattr(self, part)
            x = x if layer is None else layer(x)
        return x


class Place(NamedTuple):
    """Node of the grid: number of its path, its level, and the number of the map that each transition reads."""

    path: int
    level: int
    reads: dict[str, int]


def grid(paths: Sequence[str], transitions: Sequence[str], skipped: Sequence[Sequence[int]]) -> list[Place]:
    """List the nodes in the order in which to compute them; a skipped one passes on the previous path's map.

    Args:
        paths: direction of each path.
        transitions: names of the existing transitions.
        skipped: by level, high to low resolution, the numbers of the paths that skip it.
    """
    num_levels, number = len(skipped), len(skipped)
    places, before = [], list(range(num_levels))
    for path, direction in enumerate(paths):
        now, up = list(before), direction == "bottom_up"
        for level in range(num_levels) if up else reversed(range(num_levels)):
            if path in skipped[level]:
                continue
            maps = {"same_up": now if up else None, "same_down": None if up else now, "across_skip": range(num_levels)}
            sources = {name: maps.get(name, before) for name in transitions}
            reads = {
                name: source[level + STEPS[name]]
                for name, source in sources.items()
                if source is not None and 0 <= level + STEPS[name] < num_levels
            }
            if not reads:
                raise ValueError(
                    f"{' and '.join(transitions) or 'no transition'}: nothing enters level {level} of {path=}"
                )
            places.append(Place(path, level, reads))
            now[level] = number
            number += 1
        before = now
    return places


def graph_of(places: Sequence[Place], num_levels: int) -> Graph:
    """Return the graph of a grid's nodes."""
    return Graph(num_levels, tuple(Node(place.level, tuple(place.reads.values())) for place in places))


class GridNode(nn.Module):
    """Sum of maps, each through a transition of its own.

    Args:
        transitions: modules by the names of the transitions, in the order of the maps.
        upsamples: by name, modules ``(x, size) -> x`` that resize coarser maps before their transition.
    """

    def __init__(self, transitions: Mapping[str, nn.Module], upsamples: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.transitions = nn.ModuleDict(transitions)
        self.upsamples = nn.ModuleDict(upsamples)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Merge maps ``B C_i h w`` into ``B C H W`` with ``(H, W) = size``."""
        merged: Tensor | None = None
        for x, (name, transition) in zip(maps, self.transitions.items(), strict=True):
            x = transition(self.upsamples[name](x, size) if name in self.upsamples else x)
            if not traced() and tuple(x.shape[-2:]) != tuple(size):
                raise ValueError(
                    f"{name} makes a map of {tuple(x.shape[-2:])} cells where the level has {tuple(size)}; give it "
                    f"padding, and stride {2 if STEPS[name] < 0 else 1}"
                )
            merged = x if merged is None else merged + x
        assert merged is not None
        return merged


def check_transition(name: str, value: Any) -> None:
    """Raise an error unless ``value`` is an odd kernel size, ``"identity"``, a factory, or ``None``."""
    if isinstance(value, str):
        one_of(name, value, ("identity",), ", a kernel size, or pass a factory")
        if STEPS.get(name, 0) < 0:
            raise ValueError(f"{name}='identity' does not halve a map; pass a kernel size or a factory")
    elif value is not None and not callable(value):
        if positive_int(name, value) % 2 == 0:
            raise ValueError(f"{name}={value} must be an odd kernel size")
    elif isinstance(value, nn.Module):
        raise TypeError(f"{name}={shown(value)} must be a factory (in_channels, out_channels, stride) -> nn.Module")


def check_paths(paths: Any) -> tuple[str, ...]:
    """Return the directions of the paths; ``ValueError`` if there are none, or for an unknown one."""
    found = sequence("paths", paths, "directions")
    if not found:
        raise ValueError("paths=[] must list the direction of each path, e.g. ('bottom_up',) * 9")
    return tuple(one_of("paths", direction, DIRECTIONS) for direction in found)


def check_skipped(skipped: Any, num_levels: int, num_paths: int) -> tuple[tuple[int, ...], ...]:
    """Return the paths that skip each level, of ``"triangle"``, ``"none"`` or a sequence of sequences.

    Raises:
        TypeError: not a sequence of sequences of integers.
        ValueError: an unknown name, another number of entries than levels, or a path that does not exist.
    """
    if isinstance(skipped, str):
        one_of("skipped_paths", skipped, ("triangle", "none"), ", or pass one list of paths per level")
        counts = [num_levels - 1 - level if skipped == "triangle" else 0 for level in range(num_levels)]
        return tuple(tuple(range(min(count, num_paths))) for count in counts)
    found = tuple(integers("skipped_paths", entry, 0) for entry in sequence("skipped_paths", skipped, "sequences"))
    if len(found) != num_levels:
        raise ValueError(f"skipped_paths={shown(found)} must have one entry for each of the {num_levels} levels")
    for entry in found:
        for path in entry:
            integer("skipped_paths", path, 0, num_paths - 1)
    return found
