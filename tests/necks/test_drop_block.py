"""DropBlock matches mmdet's under the same seed, and runs where mmdet's fails; FPN has it after each merge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import assert_same_maps
from torch import nn

from fpn_plugins import FPN, PAFPN, SingleScale, SSDPyramid, TopDownPyramid
from fpn_plugins.necks import DropBlock
from fpn_plugins.testing import make_pyramid

CHANNELS = [4, 6, 8, 10]
DROP = {"type": "drop_block", "drop_prob": 0.3, "block_size": 3}


def seeded(layer: Callable[..., Any], *arguments: Any) -> Any:
    torch.manual_seed(5)
    return layer(*arguments)


@pytest.mark.mmdet
@given(
    size=st.tuples(st.integers(7, 24), st.integers(7, 24)),
    prob=st.sampled_from([0.05, 0.3, 1.0]),
    block=st.sampled_from([1, 3, 7]),
    warmup=st.sampled_from([0, 1, 3]),
)
def test_matches_mmdet(size: tuple[int, int], prob: float, block: int, warmup: int) -> None:
    from mmdet.models.layers import DropBlock as Official

    theirs, ours = Official(prob, block, warmup), DropBlock(prob, block, warmup)
    x = torch.randn(2, 3, *size)
    for _ in range(5):  # beyond the warm-up
        assert_same_maps(seeded(ours, x), seeded(theirs, x))
    assert ours.eval()(x) is x


def test_small_maps_and_everything_dropped() -> None:
    layer = DropBlock(1.0, 7)
    for size in ((1, 1), (2, 9), (6, 6)):
        out = layer(torch.ones(1, 2, *size))
        assert out.shape[-2:] == size and bool(out.isfinite().all())
    assert bool((DropBlock(1.0, 1)(torch.ones(1, 2, 4, 4)) == 0).all())


def test_half_precision_counts_more_cells_than_it_can_hold() -> None:
    x = torch.ones(1, 2, 300, 300, dtype=torch.float16)
    out = DropBlock(0.2, 3)(x)
    assert out.dtype == torch.float16 and abs(float(out.float().mean()) - 1) < 0.01


@pytest.mark.parametrize("kind", [FPN, PAFPN])
def test_in_a_neck(kind: type[FPN]) -> None:
    """In training only; the coarsest level has no merge; compiled, scripted and checkpointed alike."""
    plain, neck = kind(CHANNELS, 8), kind(CHANNELS, 8, after_merge=DROP)
    assert set(plain.state_dict()) == set(neck.state_dict())
    neck.load_state_dict(plain.state_dict())
    maps = make_pyramid()
    plain.eval(), neck.eval()
    assert_same_maps(neck(maps), plain(maps), tolerance=0)
    neck.train()
    dropped = seeded(neck, maps)
    assert not torch.equal(dropped[0], plain(maps)[0])
    assert_same_maps(seeded(torch.jit.script(neck), list(maps)), dropped)
    frugal = kind(CHANNELS, 8, after_merge=DROP, gradient_checkpointing=True)
    frugal.load_state_dict(plain.state_dict())
    for module in (neck, frugal):
        sum(m.square().sum() for m in seeded(module, maps)).backward()
    assert_same_maps([p.grad for p in frugal.parameters()], [p.grad for p in neck.parameters()])


def test_it_compiles_with_the_warm_up() -> None:
    torch._dynamo.reset()
    neck = FPN(CHANNELS, 8, after_merge={**DROP, "warmup_steps": 4}).train()
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(neck, fullgraph=True, backend=backend)
    maps = make_pyramid(image_size=(128, 160))
    for _ in range(3):
        compiled(maps)
    assert len(graphs) == 1 and float(neck.after_merge.calls) == 9


@settings(max_examples=10)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_any_sizes(size: tuple[int, int]) -> None:
    maps = make_pyramid(image_size=size)
    outputs = FPN(CHANNELS, 8, after_merge=DROP).train()(maps)
    assert [m.shape[-2:] for m in outputs] == [m.shape[-2:] for m in maps]


def test_a_factory_with_weights() -> None:
    neck = FPN(CHANNELS, 8, after_merge=lambda: nn.Conv2d(8, 8, 1))
    sum(m.sum() for m in neck(make_pyramid())).backward()
    assert {"after_merge.weight", "after_merge.bias"} <= set(neck.state_dict())
    assert neck.after_merge.weight.grad.any()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"type": "drop_path"}, "after_merge type='drop_path' is unknown.*drop_block"),
        ({"type": "drop_block", "drop_prob": 0}, "drop_prob=0 must be above 0"),
        ({"type": "drop_block", "drop_prob": 1.5}, "drop_prob=1.5 must be at most 1"),
        ({"type": "drop_block", "block_size": 4}, "block_size=4 must be odd"),
        ({"type": "drop_block", "warmup": 4}, "after_merge=.*warmup"),
        (nn.Identity(), "after_merge=Identity.* must be a mapping"),
    ],
)
def test_errors(layer: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        FPN(CHANNELS, 8, after_merge=layer)


def test_steps_are_not_counted_twice() -> None:
    with pytest.raises(ValueError, match="second pass of gradient_checkpointing would count"):
        FPN(CHANNELS, 8, after_merge={**DROP, "warmup_steps": 4}, gradient_checkpointing=True)


@pytest.mark.parametrize("kind", [SSDPyramid, TopDownPyramid, SingleScale])
def test_necks_without_merges_refuse_it(kind: type[FPN]) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} has no merges.*leave after_merge out"):
        kind(CHANNELS, 8, after_merge=DROP)
