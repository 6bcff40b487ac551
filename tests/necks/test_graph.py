"""Graphs of merges and their executor."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins.necks.graph import Graph, GraphCell, Node


@pytest.mark.parametrize(
    ("levels", "node", "message"),
    [
        (2, Node(2, (0, 1)), r"map 2.*level must be one of 0..1"),
        (2, Node(-1, (0, 1)), "level must be one of"),
        (2, Node(0, ()), r"at least one map, of 0..1"),
        (2, Node(0, (0, 2)), r"at least one map, of 0..1"),
    ],
)
def test_a_graph_of_impossible_nodes_is_an_error(levels: int, node: Node, message: str):
    with pytest.raises(ValueError, match=message):
        Graph(levels, (node,))


def test_the_executor_passes_each_node_its_maps_and_size():
    class Record(nn.Module):
        def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
            return torch.full((1, 1, *size), float(sum(int(m[0, 0, 0, 0]) for m in maps)))

    graph = Graph(2, (Node(1, (0, 1)), Node(0, (0, 2)), Node(0, (3,))))
    inputs = (torch.full((1, 1, 4, 6), 1.0), torch.full((1, 1, 2, 3), 10.0))
    fine, coarse = GraphCell(graph, [Record(), Record(), Record()])(inputs)
    assert (fine.shape, fine[0, 0, 0, 0].item()) == ((1, 1, 4, 6), 12)
    assert (coarse.shape, coarse[0, 0, 0, 0].item()) == ((1, 1, 2, 3), 11)
    with pytest.raises(ValueError, match="1 modules for a graph of 3 nodes"):
        GraphCell(graph, [Record()])
