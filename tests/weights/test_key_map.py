"""Tables that rename keys and transform values, on small examples and on the keys of real modules."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fpn_plugins import FPN
from fpn_plugins.weights import KeyMap, Report, Rule, Transform
from fpn_plugins.weights.maps import fpn as fpn_tables
from fpn_plugins.weights.maps import resnet as resnet_tables
from fpn_plugins.weights.transforms import UNFOLD_MERGING


def tensors(*keys: str) -> dict[str, Tensor]:
    """A state dict in which every tensor is its own position."""
    return {key: torch.tensor(float(index)) for index, key in enumerate(keys)}


def rename(table: KeyMap, key: str) -> tuple[bool, str | None]:
    """Whether a rule fits, and the new name."""
    rule, name = table.find(key)
    return rule is not None, name


# ---------------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("theirs", "ours", "key", "expected"),
    [
        ("a.weight", "b.weight", "a.weight", "b.weight"),
        ("a.<i>.weight", "b.<i>.w", "a.12.weight", "b.12.w"),
        ("l<i+2>.<*>", "c.<i>.<*>", "l5.conv.weight", "c.3.conv.weight"),
        ("c.<i>.<*>", "l<i+2>.<*>", "c.3.conv.weight", "l5.conv.weight"),
        ("l<i-1>", "c<i>", "l3", "c4"),
        ("<i>.<j+1>", "<j>.<i>", "7.3", "2.7"),
        ("<i+1>", "<i+3>", "4", "6"),
        ("head.<*>", "<*>", "head.a.b.c", "a.b.c"),
    ],
)
def test_patterns(theirs: str, ours: str, key: str, expected: str):
    assert rename(KeyMap("x", [(theirs, ours)]), key) == (True, expected)


@pytest.mark.parametrize(
    ("theirs", "key"),
    [
        ("a.weight", "a_weight"),  # a dot is a dot
        ("a.weight", "xa.weight"),
        ("a.weight", "a.weight.x"),
        ("a.<i>", "a.b"),
        ("a.<i>", "a."),
        ("a.<i>", "a.-1"),
        ("a.<*>", "a."),
        ("a.<*>", "a"),
    ],
)
def test_patterns_are_literal_and_match_the_whole_key(theirs: str, key: str):
    assert rename(KeyMap("x", [(theirs, "b")]), key) == (False, None)


def test_an_index_before_the_first_does_not_fit_and_later_rules_are_tried():
    table = KeyMap("x", [("convs.<k+4>", "extra.<k>"), ("convs.<i>", "out.<i>")])
    assert rename(table, "convs.4") == (True, "extra.0")
    assert rename(table, "convs.3") == (True, "out.3")
    assert rename(KeyMap("x", [("convs.<k+4>", "extra.<k>")]), "convs.3") == (False, None)


def test_the_first_rule_that_fits_wins():
    rules = [("a.norm.<*>", "n.<*>"), ("a.<*>", "c.<*>")]
    assert rename(KeyMap("x", rules), "a.norm.weight") == (True, "n.weight")
    assert rename(KeyMap("x", rules[::-1]), "a.norm.weight") == (True, "c.norm.weight")


@pytest.mark.parametrize(
    "make", [lambda old: Rule(old, "b"), lambda old: Rule("a", old), lambda old: KeyMap("x", [], [old])]
)
def test_patterns_in_braces_are_errors_that_show_the_new_spelling(make: Callable):
    with pytest.raises(ValueError, match=re.escape("write 'a.<i+2>.<*>'")):
        make("a.{i+2}.{*}")


def test_a_rule_without_our_side_drops_on_purpose():
    assert rename(KeyMap("x", [Rule("fc.<*>", None)]), "fc.weight") == (True, None)


# ------------------------------------------------------------------------------------------------------------ apply


def test_apply_reports_the_outcome_for_every_key():
    table = KeyMap("theirs", [("fc.<*>", None), ("a.<*>", "b.<*>")])
    given = tensors("a.weight", "fc.weight", "a.scale", "other")
    renamed, report = table.apply(given, wanted=["b.weight", "b.bias", "b.num_batches_tracked"])
    assert renamed == {"b.weight": given["a.weight"]}
    assert report == Report(
        layout="theirs",
        matched={"a.weight": "b.weight"},
        dropped=["fc.weight"],
        unexpected=["a.scale", "other"],
        missing=["b.bias"],  # torch fills the step counter in by itself
    )
    assert not report.complete
    assert list(given) == ["a.weight", "fc.weight", "a.scale", "other"]
    assert str(report) == (
        "theirs layout: 1 keys matched; 1 dropped: fc.weight; 2 unexpected: a.scale, other; 1 missing: b.bias"
    )


def test_apply_without_wanted_keys_renames_what_fits():
    renamed, report = KeyMap("x", [("a.<*>", "b.<*>")]).apply(tensors("a.1", "c"))
    assert set(renamed) == {"b.1"}
    assert (report.unexpected, report.missing) == (["c"], [])


@pytest.mark.parametrize(
    ("report", "complete"),
    [
        (Report("x", matched={"a": "b"}), True),
        (Report("x", matched={"a": "b"}, dropped=["fc"]), True),
        (Report("x", dropped=["fc"]), False),
        (Report("x", matched={"a": "b"}, unexpected=["c"]), False),
        (Report("x", matched={"a": "b"}, missing=["c"]), False),
    ],
)
def test_complete_means_every_key_and_every_place(report: Report, complete: bool):
    assert report.complete is complete


def test_a_long_report_is_cut_and_counts_the_rest():
    text = str(Report("x", unexpected=[f"k{index}" for index in range(11)]))
    assert "11 unexpected: k0, " in text and "k7, ... (3 more)" in text and "k8" not in text


def test_two_keys_for_one_place_are_an_error():
    table = KeyMap("x", [("a.<*>", "c.<*>"), ("b.<*>", "c.<*>")])
    with pytest.raises(ValueError, match="x layout: two keys become 'c.w', the second is 'b.w'"):
        table.apply(tensors("a.w", "b.w"))


# ---------------------------------------------------------------------------------------------------------- inverse


def test_inverse_swaps_rules_and_omits_dropped_keys():
    table = KeyMap("x", [("fc.<*>", None), ("l<i+2>.<*>", "c.<i>.<*>"), ("old.<i>.<*>", "c.<i>.<*>")])
    inverse = table.inverse()
    assert inverse.layout == "to x"
    assert rename(inverse, "c.0.weight") == (True, "l2.weight")
    assert rename(inverse, "fc.weight") == (False, None)


def assert_round_trip(table: KeyMap, keys: list[str]) -> None:
    """Check that theirs -> ours -> theirs returns every key."""
    theirs = tensors(*keys)
    ours, report = table.apply(theirs)
    assert not report.unexpected, str(report)
    back, report = table.inverse().apply(ours)
    assert not report.unexpected, str(report)
    assert back == {key: value for key, value in theirs.items() if not key.startswith(("fc.", "linear."))}


@pytest.mark.mmdet
@pytest.mark.parametrize("norm_cfg", [None, {"type": "BN"}])
def test_mmdet_fpn_round_trip(norm_cfg: dict | None):
    from mmdet.models.necks import FPN as MMDetFPN

    theirs = MMDetFPN([2, 3, 4], 8, 5, add_extra_convs="on_input", norm_cfg=norm_cfg)
    assert_round_trip(fpn_tables.mmdet(3), list(theirs.state_dict()))


@pytest.mark.torchvision
@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d])
def test_torchvision_fpn_round_trip(norm_layer: Callable | None):
    from torchvision.ops import FeaturePyramidNetwork
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    theirs = FeaturePyramidNetwork([2, 3, 4], 8, LastLevelP6P7(4, 8), norm_layer)
    assert_round_trip(fpn_tables.torchvision(), list(theirs.state_dict()))


@pytest.mark.detectron2
@pytest.mark.parametrize("norm", ["", "BN", "GN"])
def test_detectron2_fpn_round_trip(norm: str):
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone import FPN as Detectron2FPN
    from detectron2.modeling.backbone import Backbone
    from detectron2.modeling.backbone.fpn import LastLevelP6P7

    class Given(Backbone):
        def forward(self) -> None:
            """Never called; only the shapes are read."""

        def output_shape(self) -> dict[str, ShapeSpec]:
            return {f"res{stage}": ShapeSpec(channels=stage, stride=2**stage) for stage in (3, 4, 5)}

    theirs = Detectron2FPN(Given(), ["res3", "res4", "res5"], 32, norm, LastLevelP6P7(5, 32))
    assert_round_trip(fpn_tables.detectron2(first_stage=3), list(theirs.state_dict()))


@pytest.mark.detectron2
@pytest.mark.parametrize("depth", [18, 50])
def test_detectron2_resnet_round_trip(depth: int):
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet

    with torch.device("meta"):
        theirs = ResNet(BasicStem(norm="BN"), ResNet.make_default_stages(depth, norm="BN"), num_classes=7)
    assert_round_trip(resnet_tables.detectron2(), list(theirs.state_dict()))


@pytest.mark.torchvision
@pytest.mark.detectron2
def test_detectron2_resnet_gets_torchvision_names():
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet
    from torchvision.models import resnet50

    with torch.device("meta"):
        wanted = {key: value.shape for key, value in resnet50().state_dict().items() if not key.startswith("fc.")}
        theirs = ResNet(BasicStem(norm="BN"), ResNet.make_default_stages(50, norm="BN"), num_classes=7).state_dict()
    renamed, report = resnet_tables.detectron2().apply(theirs, wanted)
    assert report.complete and report.dropped == ["linear.weight", "linear.bias"]
    assert {key: value.shape for key, value in renamed.items()} == wanted


@pytest.mark.parametrize(("norm", "name"), [("bn", "BN"), ("gn", "GN"), ("ln", "LN"), ("in", "BN")])
def test_every_norm_name_of_mmcv_is_accepted(norm: str, name: str):
    ours = FPN([3], 32, norm=name)
    given = {key.replace("output", "fpn").replace(".norm.", f".{norm}."): v for key, v in ours.state_dict().items()}
    assert f"fpn_convs.0.{norm}.weight" in given
    FPN([3], 32, norm=name).load_state_dict(given)


def test_representation_names_the_layout():
    assert re.fullmatch(r"KeyMap\('detectron2 FPN', \d+ rules\)", repr(fpn_tables.detectron2(2)))


# -------------------------------------------------------------------------------------------------------- transforms


def test_rules_transform_values_and_their_inverse_undoes_it():
    double = Transform("doubled", lambda x: 2 * x, lambda x: x / 2)
    table = KeyMap("other", [Rule("a.<i+1>", "b.<i>", double), ("c", "d"), ("junk.<*>", None)], lacks=["own.<i>"])
    theirs = {"a.3": torch.tensor(5.0), "c": torch.tensor(7.0), "junk.x": torch.tensor(0.0)}
    ours, report = table.apply(theirs, ["b.2", "d", "own.1"])
    assert ours == {"b.2": torch.tensor(10.0), "d": torch.tensor(7.0)}
    assert report.complete and report.kept == ["own.1"]
    back, there = table.inverse().apply({**ours, "own.1": torch.tensor(1.0)})
    assert back == {key: theirs[key] for key in ("a.3", "c")} and there.dropped == ["own.1"]
    with pytest.raises(ValueError, match="drops"):
        Rule("a", None).inverse()


@pytest.mark.parametrize("shape", [(12,), (6, 12)])
def test_unfold_merging_matches_nn_unfold(shape: tuple[int, ...]):
    """A patch of 2x2 cells with 3 channels, numbered: `nn.Unfold` reads them channel by channel, Swin cell by cell."""
    patch = torch.arange(12.0).view(1, 3, 2, 2)
    unfolded = nn.functional.unfold(patch, 2)[0, :, 0].expand(shape)
    by_cell = torch.cat([patch[0, :, row, column] for column in (0, 1) for row in (0, 1)]).expand(shape)
    assert UNFOLD_MERGING.to_ours(unfolded).equal(by_cell)
    assert UNFOLD_MERGING.to_theirs(by_cell).equal(unfolded)
