"""Layouts of timm's own checkpoints: every family, files without the network's prefix, other image sizes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from timm_networks import images, randomize
from torch import nn

from fpn_plugins import TimmBackbone, TimmHybrid
from fpn_plugins.backbones.timm.networks import flattened, skeleton
from fpn_plugins.training import layer_lr_factors
from fpn_plugins.weights import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.timm

DATA = Path(__file__).parents[2] / "tools/docs/data/timm_families.json"
FAMILIES = json.loads(DATA.read_text(encoding="utf-8"))["families"]
# further networks with `stem.conv1` (as in Detectron2's ResNets)
WITH_STEM = ["resnetv2_50d", "nfnet_f0", "coatnet_pico_rw_224"]
# whose authors did not say what a layer is
WITHOUT_LAYERS = ["csatv2", "convformer_s18", "pit_ti_224"]


@pytest.mark.parametrize("name", [*(family["model"] for family in FAMILIES), *WITH_STEM])
def test_every_family_loads_its_full_state_dict_and_has_its_layers(name: str):
    import timm
    from timm.optim import param_groups_layer_decay

    backbone, theirs = skeleton(lambda: TimmBackbone(name)), skeleton(lambda: timm.create_model(name))
    with torch.device("meta"):
        result = backbone.load_state_dict(theirs.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    if name in WITHOUT_LAYERS:
        with pytest.raises(ValueError, match=f"timm's '{name}' does not say what its layers are"):
            layer_lr_factors(backbone, 0.7)
        return
    factors = layer_lr_factors(nn.ModuleDict({"backbone": backbone}), 0.7)
    groups = param_groups_layer_decay(theirs, layer_decay=0.7)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    wanted = {
        place: scales[id(p)] for key, p in theirs.named_parameters(remove_duplicate=False) for place in flattened(key)
    }
    assert (
        factors == {key: wanted[key.removeprefix("backbone.model.")] for key in factors}
        and len(set(factors.values())) > 1
    )


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "test_vit"])
@pytest.mark.parametrize("norm", [None, "LN"])
def test_own_file_loads_with_and_without_its_prefix(name: str, norm: str | None, tmp_path: Path):
    """`read_checkpoint` strips `model.`, which all keys of a backbone without norms of its maps have."""
    backbone = TimmBackbone(name, output_norm=norm).eval()
    file = write_checkpoint(backbone.state_dict(), tmp_path / "own.pth")
    x = images(size=(160, 160))
    for load in (lambda b: b.load_weights(file), lambda b: b.load_state_dict(read_checkpoint(file))):
        other = TimmBackbone(name, output_norm=norm).eval()
        load(other)
        assert_same_maps(other(x), backbone(x), tolerance=0)


def timm_at(name: str, file: Path, **arguments: Any) -> nn.Module:
    """timm's own network with the weights of a file, resized by timm."""
    import timm

    overlay = {"file": str(file)}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments).eval()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_vit", {"img_size": 96}),
        ("test_vit", {"img_size": 80, "patch_size": 8}),
        ("test_vit", {"img_size": (96, 128)}),
        ("swin_tiny_patch4_window7_224", {"img_size": 128, "window_size": 4, "depths": (1, 1, 1, 1)}),
        ("beit_base_patch16_224", {"img_size": 96, "depth": 1}),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_tables_of_another_size_are_resized_as_in_timm(
    name: str, arguments: dict[str, Any], own: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    import timm

    same = {key: value for key, value in arguments.items() if key.startswith("depth")}
    source = randomize(timm.create_model(name, **same))
    full = write_checkpoint(source.state_dict(), tmp_path / "timm.pth")
    file = full
    if own:
        file = write_checkpoint(TimmBackbone(name, model_args=same, checkpoint=full).state_dict(), tmp_path / "own.pth")
    theirs = timm_at(name, full, **arguments).state_dict()
    with caplog.at_level(logging.WARNING, logger="fpn_plugins"):
        ours = TimmBackbone(name, model_args=arguments, checkpoint=file)
    assert "resized from" in caplog.text
    for key, value in ours.model.state_dict().items():
        original = next((k for k in (key, key.removeprefix("model."), key.replace("_", ".", 1)) if k in theirs), None)
        assert original is not None and torch.equal(value, theirs[original])


@pytest.mark.parametrize("strict", [True, False])
def test_a_tensor_that_timm_does_not_resize_is_an_error(strict: bool):
    """mmengine only warns of another shape."""
    import timm

    weights = timm.create_model("mobilenetv2_050").state_dict()
    with pytest.raises(ValueError, match=r"of another shape: model\.conv_stem.*name='mobilenetv2_100'"):
        TimmBackbone("mobilenetv2_100").load_state_dict(weights, strict)


def test_a_hybrid_resizes_its_positions():
    import timm

    source = timm.create_model("vit_small_r26_s32_224", depth=1, num_classes=0, img_size=96)
    ours = TimmHybrid("vit_small_r26_s32_224", model_args={"depth": 1, "img_size": 160})
    ours.load_state_dict(source.state_dict())
    assert ours.model.pos_embed.shape[1] == 26
