"""Pyramids whose merges form a graph (BiFPN, NAS-FPN): the graph is data, and one module runs it.

::

    maps    0 1 2        inputs of the graph, one per level, high to low resolution
            3 4 5 ...    one per node, in order: Node(level, inputs) reads earlier maps and returns a map of its level
    outputs              last map of each level
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from ..ops import checkpointing


class Node(NamedTuple):
    """Merge of several maps into one.

    Attributes:
        level: level of the result, 0 for the highest resolution; the result has the size of that level's input.
        inputs: numbers of the maps to merge; the graph's inputs come first, then the earlier nodes.
        op: kind of merge, for graphs with several kinds.
    """

    level: int
    inputs: tuple[int, ...]
    op: str = "sum"


@dataclass(frozen=True)
class Graph:
    """Merges in the order in which to compute them.

    Args:
        num_levels: number of input maps and of output maps.
        nodes: the merges; each reads earlier maps.
        outputs: numbers of the maps to return; by default those of the last map of each level.

    Raises:
        ValueError: a node at a nonexistent level, or one that reads no map or a later one.
    """

    num_levels: int
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for number, node in enumerate(self.nodes, start=self.num_levels):
            if not 0 <= node.level < self.num_levels:
                raise ValueError(f"map {number}, {node}: level must be one of 0..{self.num_levels - 1}")
            if not node.inputs or not all(0 <= source < number for source in node.inputs):
                raise ValueError(f"map {number}, {node}: inputs must list at least one map, of 0..{number - 1}")
        if self.outputs:
            return
        last = {self.level_of(number): number for number in range(self.num_levels + len(self.nodes))}
        object.__setattr__(self, "outputs", tuple(last[level] for level in range(self.num_levels)))

    def level_of(self, number: int) -> int:
        """Return the level of a map by its number."""
        return number if number < self.num_levels else self.nodes[number - self.num_levels].level


class GraphCell(nn.Module):
    """A graph with one merging module per node.

    Args:
        graph: the graph.
        nodes: one module per node, called as ``module(maps, size)`` with the maps that the node reads and the size
            ``(H, W)`` of its level.

    Raises:
        ValueError: another number of modules than of nodes.
    """

    def __init__(self, graph: Graph, nodes: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(nodes) != len(graph.nodes):
            raise ValueError(
                f"GraphCell has {len(nodes)} modules for a graph of {len(graph.nodes)} nodes; pass one per node"
            )
        self.graph = graph
        self.nodes = nn.ModuleList(nodes)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one ``B C H W`` per level, high to low resolution, to outputs of the same sizes."""
        return run_graph(self.graph, self.nodes, inputs)


def run_graph(
    graph: Graph, nodes: Iterable[nn.Module], inputs: Sequence[Tensor], checkpointed: bool = False
) -> tuple[Tensor, ...]:
    """Compute the outputs of a graph.

    Args:
        graph: the graph.
        nodes: one module per node, see `GraphCell`.
        inputs: maps ``B C H W``, one per level, high to low resolution.
        checkpointed: keep only the maps between nodes for backward.
    """
    sizes = [(x.shape[-2], x.shape[-1]) for x in inputs]
    maps = list(inputs)
    for node, merge in zip(graph.nodes, nodes, strict=True):
        read = [maps[number] for number in node.inputs]
        maps.append(checkpointing.run(merge, read, sizes[node.level], checkpointed=checkpointed))
    return tuple(maps[number] for number in graph.outputs)
