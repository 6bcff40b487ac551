"""Load hooks: which table explains a state dict, and what happens when none does."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN, ExtraLevels
from fpn_plugins.weights import KeyMap, accept_layouts, recognize, redirect_keys
from fpn_plugins.weights.maps import fpn as fpn_tables


def tensors(*keys: str) -> dict[str, Tensor]:
    """A state dict in which every tensor is its own position."""
    return {key: torch.tensor(float(index)) for index, key in enumerate(keys)}


def foreign_fpn(ours: FPN) -> dict[str, Tensor]:
    """The weights of ``ours`` under mmdet's names."""
    return fpn_tables.mmdet(len(ours.lateral_convs)).inverse().apply(ours.state_dict())[0]


@pytest.fixture
def neck() -> FPN:
    return FPN([3, 4], 8, extra_levels=ExtraLevels(1, "conv", bare=False))


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_own_keys_pass_untouched(neck: FPN):
    def never(keys: object) -> list[KeyMap]:
        raise AssertionError("tables are not made for our own keys")

    assert recognize(neck.state_dict(), neck.state_dict(), never) is None
    other = FPN([3, 4], 8, extra_levels=ExtraLevels(1, "conv", bare=False))
    other.load_state_dict(neck.state_dict())
    assert_unchanged(other, neck.state_dict())


def test_a_part_of_our_own_keys_is_left_to_strict(neck: FPN):
    part = {"output_convs.1.conv.bias": torch.full((8,), 5.0)}
    with pytest.raises(RuntimeError, match="Missing key"):
        neck.load_state_dict(part)
    result = neck.load_state_dict(part, strict=False)
    assert neck.output_convs[1].conv.bias.eq(5).all()
    assert "output_convs.0.conv.bias" in result.missing_keys and not result.unexpected_keys


def test_keys_of_no_layout_are_left_to_strict(neck: FPN):
    before = weights_of(neck)
    with pytest.raises(RuntimeError, match="Unexpected key.*nothing.like.it"):
        neck.load_state_dict(tensors("nothing.like.it"))
    neck.load_state_dict(tensors("nothing.like.it"), strict=False)
    assert_unchanged(neck, before)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_partial_match_lists_the_keys_and_loads_nothing(neck: FPN, change: str, strict: bool):
    """mmengine loads with ``strict=False``, where torch alone would silently load the keys that match."""
    given = {key: torch.full_like(value, 9.0) for key, value in foreign_fpn(neck).items()}
    if change == "missing":
        del given["fpn_convs.2.conv.weight"]
        named = "1 missing: extra_levels.convs.0.conv.weight"
    else:
        given["fpn_convs.3.conv.weight"] = torch.zeros(8, 8, 3, 3)
        named = "1 unexpected: fpn_convs.3.conv.weight"
    before = weights_of(neck)
    with pytest.raises(ValueError, match="fits this module only in part, so nothing was loaded.*mmdet FPN") as error:
        neck.load_state_dict(given, strict=strict)
    assert named in str(error.value)
    assert_unchanged(neck, before)


def test_tables_that_disagree_are_ambiguous():
    tables = [
        KeyMap("one", [("x.<*>", "a.<*>"), ("y.<*>", "b.<*>")]),
        KeyMap("two", [("x.<*>", "b.<*>"), ("y.<*>", "a.<*>")]),
    ]
    with pytest.raises(ValueError, match=r"ambiguous checkpoint: one layout: 2 keys matched \| two layout: 2 keys"):
        recognize(tensors("x.w", "y.w"), ["a.w", "b.w"], tables)


def test_tables_that_agree_are_not_ambiguous():
    tables = [KeyMap(name, [("x.<*>", "a.<*>")]) for name in ("one", "two")]
    renamed, report = recognize(tensors("x.w"), ["a.w"], tables)
    assert set(renamed) == {"a.w"} and report.layout == "one"


def test_the_layout_that_explains_most_is_the_one_reported():
    tables = [KeyMap("little", [("x", "a")]), KeyMap("most", [("x", "a"), ("y", "b")])]
    with pytest.raises(ValueError, match="most layout: 2 keys matched; 1 unexpected: z"):
        recognize(tensors("x", "y", "z"), ["a", "b"], tables)


def test_a_load_is_logged_with_its_report(neck: FPN, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="fpn_plugins"):
        neck.load_state_dict(foreign_fpn(neck))
    assert "FPN: mmdet FPN layout: 10 keys matched" in caplog.text


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_load_foreign_names_into_themselves(neck: FPN, clone: Callable):
    before = weights_of(neck)
    copied = clone(neck)
    given = {key: torch.full_like(value, 9.0) for key, value in foreign_fpn(neck).items()}
    copied.load_state_dict(given)
    assert all(value.eq(9).all() for value in copied.state_dict().values())
    assert_unchanged(neck, before)


def test_a_batch_norm_without_its_counter_loads():
    """Detectron2's files have none."""
    ours = FPN([3], 8, norm="BN")
    given = {key: value for key, value in foreign_fpn(ours).items() if not key.endswith("num_batches_tracked")}
    given["fpn_convs.0.bn.running_mean"] = torch.full((8,), 9.0)
    ours.load_state_dict(given)
    assert ours.output_convs[0].norm.running_mean.eq(9).all()


def test_any_module_can_accept_layouts():
    module = nn.Linear(2, 2)
    accept_layouts(module, layouts_of_a_linear)
    module.load_state_dict({"w": torch.ones(2, 2), "b": torch.ones(2)})
    assert module.weight.eq(1).all()
    module.load_state_dict({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)})
    assert module.weight.eq(0).all()


def layouts_of_a_linear(keys: object) -> list[KeyMap]:
    return [KeyMap("short", [("w", "weight"), ("b", "bias")])]


@pytest.mark.parametrize("prefix", ["", "detector."])
def test_redirected_keys_reach_the_child_and_others_stay(neck: FPN, prefix: str):
    """Detectron2 keeps the pyramid's convolutions beside ``bottom_up``."""
    box = nn.ModuleDict({"bottom_up": nn.Linear(1, 1), "neck": neck})
    redirect_keys(box, fpn_tables.detectron2_backbone([4, 5]))
    outer = nn.ModuleDict({"detector": box}) if prefix else box
    table = fpn_tables.detectron2(first_stage=4).inverse()
    given = {f"{prefix}{key}": torch.full_like(v, 9.0) for key, v in table.apply(neck.state_dict())[0].items()}
    assert f"{prefix}fpn_lateral4.weight" in given and f"{prefix}top_block.p6.bias" in given
    given |= {f"{prefix}bottom_up.weight": torch.ones(1, 1), f"{prefix}bottom_up.bias": torch.ones(1)}
    outer.load_state_dict(given)
    assert all(value.eq(9).all() for value in neck.state_dict().values())
    assert box["bottom_up"].weight.item() == 1
    outer.load_state_dict(outer.state_dict())  # its own keys still load


def test_finest_stage_of_detectron2_is_read_from_the_keys():
    ours = FPN([3, 4], 8)
    for stage in (1, 3, 10):
        given = fpn_tables.detectron2(stage).inverse().apply(ours.state_dict())[0]
        assert f"fpn_output{stage + 1}.weight" in given
        other = FPN([3, 4], 8)
        other.load_state_dict(given)
        assert_unchanged(other, ours.state_dict())


@pytest.mark.parametrize("strict", [True, False])
def test_levels_of_a_larger_pyramid_are_not_loaded_into_a_smaller_one(strict: bool):
    """P2..P5 into P3..P5: every key of ours is there, one level off."""
    small, large = FPN([3, 4], 8), FPN([3, 3, 4], 8)
    before = weights_of(small)
    with pytest.raises(ValueError, match=r"only in part.*unexpected: .*lateral_convs\.2.*FPN_PLUGINS_PARTIAL_LOAD=1"):
        small.load_state_dict(large.state_dict(), strict=strict)
    assert_unchanged(small, before)


def test_keys_beside_all_of_our_own_are_left_to_strict():
    small = FPN([3, 4], 8)
    given = {**small.state_dict(), "ema_decay": torch.zeros(1)}
    small.load_state_dict(given, strict=False)
    with pytest.raises(RuntimeError, match="Unexpected key.*ema_decay"):
        small.load_state_dict(given)


def test_a_partial_load_on_request_is_logged(
    neck: FPN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    given = {key: torch.full_like(value, 9.0) for key, value in foreign_fpn(neck).items()}
    del given["fpn_convs.2.conv.weight"]
    monkeypatch.setenv("FPN_PLUGINS_PARTIAL_LOAD", "1")
    with caplog.at_level(logging.WARNING, logger="fpn_plugins"):
        result = neck.load_state_dict(given, strict=False)
    assert "loading in part" in caplog.text
    assert result.missing_keys == ["extra_levels.convs.0.conv.weight"]
    assert neck.lateral_convs[0].conv.weight.eq(9).all()


def test_keys_that_a_table_drops_beside_all_of_our_own_are_dropped():
    table = KeyMap("classifier", [("head.<*>", None), ("<*>", "<*>")])
    renamed, report = recognize(tensors("a", "head.b"), ["a"], [table])
    assert set(renamed) == {"a"} and report.dropped == ["head.b"]
    assert recognize(tensors("a", "other"), ["a"], [table]) is None
