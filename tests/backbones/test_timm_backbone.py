"""Backbones from timm: published shapes, freezing, checkpoints under every name, and errors."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from payload import Payload
from precision import assert_same_gradients, assert_same_maps
from torch import Tensor, nn

from fpn_plugins import BACKBONES, FeatureSpec, TimmBackbone, build_backbone, check_pyramid
from fpn_plugins.weights import write_checkpoint

pytestmark = pytest.mark.timm

# name, number of feature maps: "same" padding, grouped convolutions, four maps instead of five
FAMILIES = [
    ("resnet18", 5),
    ("mobilenetv2_100", 5),
    ("tf_efficientnet_lite0", 5),
    ("regnetx_002", 5),
    ("convnext_atto", 4),
    ("mobilenetv3_small_050", 5),
]
TINY_SWIN = {
    "name": "swin_tiny_patch4_window7_224",
    "out_indices": (0, 1, 2, 3),
    "model_args": {"img_size": 64, "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
}


def randomise(module: nn.Module) -> nn.Module:
    """Statistics and affine parameters that a missed or misplaced key would change."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) or hasattr(layer, "running_var"):
            layer.running_mean.normal_(std=0.1), layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5), layer.bias.data.normal_(std=0.1)
    return module


def images(channels: int = 3, size: tuple[int, int] = (65, 50), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, channels, *size, dtype=dtype)


# ------------------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_published_specs_equal_the_maps(name: str, maps: int):
    backbone = TimmBackbone(name, out_indices=range(maps)).eval()
    for size in ((64, 64), (65, 97), (71, 50)):
        with torch.no_grad():
            check_pyramid(backbone(images(size=size)), backbone.feature_specs, size)
    assert [spec.stride for spec in backbone.feature_specs] == [2, 4, 8, 16, 32][-maps:]


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_fewer_maps_are_the_same_maps(name: str, maps: int):
    everything = TimmBackbone(name, out_indices=range(maps)).eval()
    indices = (1, maps - 2)
    some = TimmBackbone(name, out_indices=indices).eval()
    own = some.state_dict()
    assert set(own) <= set(everything.state_dict())
    some.load_state_dict({key: value for key, value in everything.state_dict().items() if key in own})
    x = images()
    with torch.no_grad():
        all_maps = everything(x)
        assert_same_maps(some(x), [all_maps[index] for index in indices], tolerance=0)
    assert some.feature_specs == tuple(everything.feature_specs[index] for index in indices)


def test_maps_of_a_channels_last_network_are_channels_first():
    backbone = TimmBackbone(**TINY_SWIN).eval()
    assert backbone.feature_specs == tuple(FeatureSpec(8 << k, 4 << k) for k in range(4))
    x = images(size=(64, 64))
    maps = backbone(x)
    check_pyramid(maps, backbone.feature_specs, (64, 64))
    assert_same_maps([m.permute(0, 2, 3, 1) for m in maps], backbone.model(x), tolerance=0)


@pytest.mark.parametrize(
    ("name", "arguments", "indices", "strides"),
    [
        ("resnet10t", {}, (1, 2, 3, 4), (4, 8, 16, 32)),
        ("convnext_atto", {}, (0, 1, 2, 3), (4, 8, 16, 32)),
        ("resnet10t", {"output_stride": 16}, (1, 2, 4), (4, 8, 16)),
        ("vit_tiny_patch16_224", {"depth": 3}, (2,), (16,)),
    ],
)
def test_without_indices_the_last_map_of_each_stride(
    name: str, arguments: dict[str, Any], indices: tuple[int, ...], strides: tuple[int, ...]
):
    backbone = TimmBackbone(name, model_args=arguments)
    assert backbone.out_indices == indices
    assert tuple(spec.stride for spec in backbone.feature_specs) == strides


def test_output_norms_normalise_each_map_and_a_timm_file_leaves_them(checkpoint: Callable):
    import timm

    file = checkpoint(randomise(timm.create_model("convnext_atto")))
    plain = TimmBackbone("convnext_atto", checkpoint=file).double().eval()
    normed = TimmBackbone("convnext_atto", checkpoint=file, output_norm="LN").double().eval()
    assert {key for key in normed.state_dict() if key.startswith("norms.")} == {
        f"norms.{index}.{part}" for index in range(4) for part in ("weight", "bias")
    }
    x = images(dtype=torch.double)
    assert all(m.is_contiguous() for m in normed(x))
    for got, m in zip(normed(x), plain(x), strict=True):
        expected = nn.functional.layer_norm(m.permute(0, 2, 3, 1), (m.shape[1],), eps=1e-6).permute(0, 3, 1, 2)
        assert_same_maps(got, expected)


def test_mean_and_std_are_those_of_the_weights():
    import timm

    for name in ("resnet18", "tf_efficientnet_lite0", "mobilenetv2_100.ra_in1k"):
        config = timm.get_pretrained_cfg(name)
        backbone = TimmBackbone(name)
        assert (backbone.mean, backbone.std) == (config.mean, config.std)


# ---------------------------------------------------------------------------------------------------------- freezing


def frozen_parameters(backbone: nn.Module) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}


@pytest.mark.mmdet
@pytest.mark.parametrize("norm_eval", [False, True])
@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 4])
def test_frozen_stages_of_resnet_are_mmdets_by_name(frozen_stages: int, norm_eval: bool):
    from mmdet.models.backbones import ResNet

    theirs = ResNet(18, frozen_stages=frozen_stages, norm_eval=norm_eval)
    theirs.train()  # returns None
    ours = TimmBackbone("resnet18", frozen_stages=frozen_stages, norm_eval=norm_eval).train()
    assert frozen_parameters(ours) == {f"model.{name}" for name in frozen_parameters(theirs)}
    norms = {f"model.{n}" for n, m in theirs.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training}
    assert {n for n, m in ours.named_modules() if isinstance(m, nn.BatchNorm2d) and m.training} == norms


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_what_computes_the_frozen_maps_gets_no_gradient_and_the_rest_does(name: str, maps: int):
    """Independent of names: a map may have a gradient exactly when it comes after the frozen ones."""
    for frozen_stages in (0, 1, maps - 1):
        backbone = TimmBackbone(name, out_indices=range(maps), frozen_stages=frozen_stages).train()
        computed = backbone(torch.randn(2, 3, 64, 64))
        assert [m.requires_grad for m in computed] == [index > frozen_stages for index in range(maps)]
        if frozen_stages == maps - 1:
            continue
        sum(m.square().sum() for m in computed[frozen_stages + 1 :]).backward()
        free = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        assert free and [name for name, p in free.items() if p.grad is None] == []


@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_frozen_weights_and_statistics_do_not_move_in_training(name: str, maps: int):
    backbone = TimmBackbone(name, out_indices=range(maps), frozen_stages=1)
    frozen = set(frozen_parameters(backbone))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    owners = {key.rpartition(".")[0] for key in frozen}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone.train()
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))[2:]).backward()
    optimizer.step()
    moved = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if "running_" in key}
    assert not {key for key in moved if key.rpartition(".")[0] in owners}
    assert moved >= {key for key in statistics if key.rpartition(".")[0] not in owners}


def test_norm_eval_keeps_statistics_but_trains_weights():
    backbone = TimmBackbone("resnet18", norm_eval=True).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running_" in key}
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(backbone.state_dict()[key], value) for key, value in before.items())
    assert frozen_parameters(backbone) == set()
    assert all(m.requires_grad for m in maps)
    assert backbone.training and backbone.model.layer1.training


@pytest.mark.parametrize("arguments", [{}, {"frozen_stages": 1}, {"norm_eval": True}])
def test_train_and_eval_return_self_and_switch(arguments: dict[str, Any]):
    backbone = TimmBackbone("resnet18", **arguments)
    assert backbone.eval() is backbone and not any(m.training for m in backbone.modules())
    assert backbone.train() is backbone and backbone.training and backbone.model.layer4.training
    assert backbone.train(False) is backbone and not backbone.training


def test_frozen_parts_stay_frozen_in_copies_and_inside_a_detector():
    backbone = TimmBackbone("resnet18", frozen_stages=1)
    for clone in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        detector = nn.Sequential(clone).train()
        assert not detector[0].model.bn1.training and detector[0].model.layer2.training
        assert frozen_parameters(clone) == frozen_parameters(backbone) != set()


# ---------------------------------------------------------------------------------------------- options of the networks


def test_gradient_checkpointing_gives_equal_gradients():
    plain = TimmBackbone("resnet18").double().train()
    saving = TimmBackbone("resnet18", gradient_checkpointing=True).double().train()
    assert saving.model.grad_checkpointing and not plain.model.grad_checkpointing
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.double)
    for backbone in (plain, saving):
        sum(m.square().mean() for m in backbone(x)).backward()
    assert_same_gradients(*({key: p.grad for key, p in module.named_parameters()} for module in (saving, plain)))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_drop_path_drops_in_training_only(name: str):
    indices = (0, 1, 2, 3)
    # random norms, because timm starts each residual branch at zero
    backbone = randomise(TimmBackbone(name, indices, drop_path_rate=0.9, norm_eval=True)).train()
    without = randomise(TimmBackbone(name, indices, norm_eval=True)).train()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert any(not torch.equal(a, b) for a, b in zip(backbone(x), backbone(x), strict=True))
        assert_same_maps(without(x), without(x), tolerance=0)
        backbone.eval()
        assert_same_maps(backbone(x), backbone(x), tolerance=0)


def test_model_args_reach_timm():
    assert TimmBackbone("resnet18", model_args={"output_stride": 8}).feature_specs[-1].stride == 8
    with pytest.raises(TypeError, match="no_such_argument"):
        TimmBackbone("resnet18", model_args={"no_such_argument": 1})


# ------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[nn.Module], Path]:
    """Write a module's weights to a file."""

    def write(module: nn.Module, name: str = "weights.pth") -> Path:
        return write_checkpoint(module.state_dict(), tmp_path / name)

    return write


@pytest.mark.parametrize("in_chans", [3, 1, 4])
@pytest.mark.parametrize(("name", "maps"), FAMILIES)
def test_timms_file_gives_what_timm_makes_of_it(name: str, maps: int, in_chans: int, checkpoint: Callable):
    """Also for images of other channels than the file's: timm adapts the first convolution."""
    import timm

    file = checkpoint(randomise(timm.create_model(name)))
    ours = TimmBackbone(name, range(maps), checkpoint=file, in_chans=in_chans).eval()
    theirs = timm.create_model(
        name,
        features_only=True,
        out_indices=tuple(range(maps)),
        in_chans=in_chans,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
    ).eval()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.model.state_dict().items())
    x = images(in_chans, dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours.double()(x), theirs.double()(x))


def test_a_timm_file_loads_into_fewer_maps(checkpoint: Callable):
    import timm

    theirs = timm.create_model("resnet18")
    ours = TimmBackbone("resnet18", (1, 2), checkpoint=checkpoint(theirs))
    assert torch.equal(ours.model.layer2[1].conv2.weight, theirs.layer2[1].conv2.weight)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_its_own_file_loads(suffix: str, checkpoint: Callable):
    backbone = randomise(TimmBackbone("resnet18", frozen_stages=1)).eval()
    other = TimmBackbone("resnet18", checkpoint=checkpoint(backbone, f"weights{suffix}")).eval()
    x = images()
    assert_same_maps(other(x), backbone(x), tolerance=0)


@pytest.mark.torchvision
def test_torchvisions_resnet_loads(checkpoint: Callable):
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter

    theirs = randomise(resnet18()).eval()
    ours = TimmBackbone("resnet18", checkpoint=checkpoint(theirs)).eval()
    layers = IntermediateLayerGetter(theirs, {f"layer{index}": str(index) for index in (1, 2, 3, 4)})
    x = images(dtype=torch.double)
    assert_same_maps(ours.double()(x), list(layers.double()(x).values()))


@pytest.mark.mmdet
def test_mmdets_resnet_loads(checkpoint: Callable):
    from mmdet.models.backbones import ResNet

    theirs = randomise(ResNet(18))
    theirs.eval()  # returns None
    ours = TimmBackbone("resnet18", checkpoint=checkpoint(theirs)).eval()
    x = images(dtype=torch.double)
    assert_same_maps(ours.double()(x), theirs.double()(x))


@pytest.mark.detectron2
@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_detectron2s_resnet_loads(depth: int, classifier: bool, tmp_path: Path):
    """With the stride in the 3x3 convolution, as torchvision's and timm's weights have it."""
    from detectron2.modeling.backbone.resnet import BasicStem, ResNet

    bottleneck = {"stride_in_1x1": False} if depth == 50 else {}
    stages = ResNet.make_default_stages(depth, norm="BN", **bottleneck)
    names = [f"res{stage}" for stage in (2, 3, 4, 5)]
    theirs = randomise(ResNet(BasicStem(norm="BN"), stages, num_classes=7 if classifier else None, out_features=names))
    arrays = {key: value.numpy() for key, value in theirs.state_dict().items() if "num_batches" not in key}
    file = tmp_path / "weights.pkl"  # as in their model zoo: arrays, no step counters
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone", "matching_heuristics": True}))
    ours = TimmBackbone(f"resnet{depth}", checkpoint=file).eval()
    x = images(dtype=torch.double)
    with torch.no_grad():
        assert_same_maps(ours.double()(x), list(theirs.double().eval()(x).values()))


def test_foreign_names_load_through_load_state_dict_too():
    """As the toolboxes do it: mmdet's ``load_from`` never sees the file's path."""
    import timm

    theirs = timm.create_model("resnet18")
    detector = nn.ModuleDict({"backbone": TimmBackbone("resnet18")})
    weights = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    detector.load_state_dict(weights)
    assert torch.equal(detector["backbone"].model.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_unknown_model_suggests_near_names():
    with pytest.raises(ValueError, match="timm has no model 'resnet_50'; near names: .*resnet50"):
        TimmBackbone("resnet_50")
    with pytest.raises(ValueError, match="timm has no model '@@@@'$"):
        TimmBackbone("@@@@")


@pytest.mark.parametrize("indices", [(), (4, 3), (1, 1), (-1,), (3, 5)])
def test_out_indices_out_of_range_show_the_table(indices: tuple[int, ...]):
    with pytest.raises(ValueError) as error:
        TimmBackbone("resnet18", out_indices=indices)
    assert f"out_indices={list(indices)} must be ascending" in str(error.value)
    assert "0: stride 2, 1: stride 4, 2: stride 8, 3: stride 16, 4: stride 32" in str(error.value)


def test_too_many_maps_of_a_network_of_four_show_the_table():
    with pytest.raises(
        ValueError, match="of convnext_atto's maps .0: stride 4, 1: stride 8, 2: stride 16, 3: stride 32"
    ):
        TimmBackbone("convnext_atto", out_indices=(1, 2, 3, 4))


def test_a_network_without_gradient_checkpointing_says_so():
    with pytest.raises(ValueError, match="'hrnet_w18_small' has no gradient checkpointing"), torch.device("meta"):
        TimmBackbone("hrnet_w18_small", gradient_checkpointing=True)


@pytest.mark.parametrize("stages", [5, -5])
def test_frozen_stages_out_of_range(stages: int):
    with pytest.raises(
        ValueError,
        match=rf"frozen_stages={stages} must be -1 \(none\) or the position of a map up to the last wanted, 4",
    ):
        TimmBackbone("resnet18", frozen_stages=stages)


def test_a_network_without_feature_maps_says_so(monkeypatch: pytest.MonkeyPatch):
    """Every network of today's timm has some; those of older ones raise this."""
    import timm

    def refuse(*unused: object, **also_unused: object) -> nn.Module:
        raise RuntimeError("features_only not implemented for Vision Transformer models.")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match="'resnet18' offers no feature maps .*: features_only not implemented"):
        TimmBackbone("resnet18")


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch):
    import timm

    create = timm.create_model

    def offline(*args: Any, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        RuntimeError, match="no weights for 'resnet18', or could not fetch them .*no route.*checkpoint=FILE"
    ):
        TimmBackbone("resnet18", pretrained=True)


def test_pretrained_and_checkpoint_exclude_each_other():
    with pytest.raises(ValueError, match="pretrained=True and checkpoint='x.pth' exclude each other"):
        TimmBackbone("resnet18", pretrained=True, checkpoint="x.pth")


@pytest.mark.parametrize(
    ("other", "ours", "named"),
    [
        ("mobilenetv2_100", "resnet18", "blocks.0.0"),  # shares `bn1` with ResNet
        ("convnext_atto", "resnet18", "head.fc.bias"),  # shares nothing
        ("resnet18", "convnext_atto", "bn1.bias"),
        ("resnet34", "resnet18", "layer1.2"),  # holds more
        ("resnet18", "resnet34", "layer1.2"),  # holds less
        ("convnext_femto", "convnext_atto", "stem_0"),  # the same names, other widths
    ],
)
def test_a_checkpoint_of_another_architecture_names_keys(other: str, ours: str, named: str, checkpoint: Callable):
    import timm

    file = checkpoint(timm.create_model(other))
    with pytest.raises(ValueError) as error:
        TimmBackbone(ours, out_indices=(1, 2, 3), checkpoint=file)
    assert named in str(error.value)


def test_a_truncated_checkpoint_is_an_error_that_names_the_file(checkpoint: Callable):
    file = checkpoint(TimmBackbone("resnet18"))
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="cannot read checkpoint .*weights.pth.*damaged"):
        TimmBackbone("resnet18", checkpoint=file)


def test_a_missing_checkpoint_is_not_found():
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        TimmBackbone("resnet18", checkpoint="nowhere.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_checkpoint_with_a_payload_is_refused_and_does_not_run(tmp_path: Path, suffix: str):
    file, trace = tmp_path / f"weights{suffix}", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"conv1.weight": Payload(trace)}))
    with pytest.raises(ValueError, match="not executed"):
        TimmBackbone("resnet18", checkpoint=file)
    assert not trace.exists()


# ------------------------------------------------------------------------------------------------------ from mappings


def test_built_from_a_mapping():
    backbone = build_backbone({"type": "TimmBackbone", "name": "resnet18", "out_indices": [1, 2]})
    assert type(backbone) is BACKBONES["TimmBackbone"]
    assert backbone.feature_specs == (FeatureSpec(64, 4), FeatureSpec(128, 8))
    assert build_backbone(backbone) is backbone


def test_a_mapping_with_an_unknown_type_or_argument():
    with pytest.raises(ValueError, match=r"backbone type='TimBackbone' is unknown; .* \(near: \['TimmBackbone'\]\)"):
        build_backbone({"type": "TimBackbone"})
    with pytest.raises(ValueError, match="backbone type=None is unknown"):
        build_backbone({"name": "resnet18"})
    with pytest.raises(TypeError, match="out_indexes"):
        build_backbone({"type": "TimmBackbone", "name": "resnet18", "out_indexes": [1]})


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet10t", "convnext_atto"])
def test_nothing_is_left_behind_the_last_wanted_map(name: str) -> None:
    """Parameters without gradient stop DistributedDataParallel, and stages that nobody reads cost time."""
    backbone = TimmBackbone(name, out_indices=(0, 1))
    everything = TimmBackbone(name, out_indices=(0, 1, 2, 3))
    for got, wanted in zip(backbone.state_dict(), everything.state_dict(), strict=False):
        assert got == wanted
    everything.load_state_dict({**everything.state_dict(), **backbone.state_dict()})
    image = torch.randn(2, 3, 64, 64)
    backbone.train(), everything.train()
    for got, wanted in zip(backbone(image), everything(image)[:2], strict=True):
        assert torch.equal(got, wanted)
    sum(m.sum() for m in backbone(image)).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_frozen_stages_after_the_last_map_is_an_error() -> None:
    with pytest.raises(ValueError, match="frozen_stages=3 must be.*last wanted, 2"):
        TimmBackbone("resnet10t", out_indices=(1, 2), frozen_stages=3)


def test_maps_that_timm_lists_but_cannot_return() -> None:
    with pytest.raises(ValueError, match=r"timm cannot return maps \[0, 1\] of 'tresnet_m'"), torch.device("meta"):
        TimmBackbone("tresnet_m", out_indices=(0, 1))
