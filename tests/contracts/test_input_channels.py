"""Images of one, four and more channels in every registered backbone, and weights for color images in them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from registered import BACKBONE_ARGUMENTS, BACKBONE_HOSTS, FAMILIES, FOUNDATION, VARIANTS
from torch import Tensor, nn

from fpn_plugins import BACKBONES, ViT
from fpn_plugins.weights import adapt_channels

# the part of a composed backbone that reads the image and has `in_chans`
READER = ("backbone", "cnn", "vit")
STANDARDIZED = ("TimmHybrid",)  # its first convolution standardizes its filters, so that their sum is another
NAMES = [pytest.param(name, marks=BACKBONE_HOSTS.get(name, ())) for name in sorted([*BACKBONES, *VARIANTS])]


def build(name: str, in_chans: int) -> nn.Module:
    """Build a backbone with its example arguments for images of ``in_chans`` channels."""
    kind, example = {**VARIANTS, **FAMILIES}.get(name, (name, BACKBONE_ARGUMENTS.get(name, {})))
    arguments: Any = copy.deepcopy(example)
    reader = arguments
    while inner := next((reader[part] for part in READER if part in reader), None):
        reader = inner
    reader["in_chans"] = in_chans
    return BACKBONES[kind](**arguments).eval()


def readers(color: nn.Module, other: nn.Module) -> list[str]:
    """Name the parameters in which two networks for images of different channels differ."""
    own = other.state_dict()
    return [key for key, value in color.state_dict().items() if value.shape != own[key].shape]


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("name", [*NAMES, *[family for family in FOUNDATION if family.values[0] in FAMILIES]])
def test_weights_for_color_images_are_adapted_as_in_timm(name: str, in_chans: int):
    from timm.models import adapt_input_conv

    color, net = build(name, 3), build(name, in_chans)
    net.load_state_dict(color.state_dict())
    keys = readers(color, net)
    assert keys and net.in_chans == in_chans
    own = net.state_dict()
    for key, value in color.state_dict().items():
        assert torch.equal(own[key], adapt_input_conv(in_chans, value) if key in keys else value), key
    with torch.no_grad():
        maps = net(torch.randn(1, in_chans, 64, 64))
        assert [m.shape[1] for m in maps[-len(color.feature_specs) :]] == [spec.channels for spec in net.feature_specs]


@pytest.mark.parametrize("name", [name for name in NAMES if name.values[0] not in STANDARDIZED])
def test_gray_image_gives_the_maps_of_the_color_image(name: str):
    """Without padding that depends on the colors, the sum of the filters sees what three equal channels show."""
    color, gray = build(name, 3), build(name, 1)
    gray.load_state_dict(color.state_dict())
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for got, wanted in zip(gray(x), color(x.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_other_channels_than_color_are_refused(name: str):
    """Of four channels, nobody knows which is which."""
    net = build(name, 5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit"):
        net.load_weights(build(name, 4).state_dict())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_color_images_keep_the_weights():
    from timm.models import adapt_input_conv

    weights = torch.randn(8, 3, 4, 4)
    assert all(torch.equal(adapt_channels(weights, n), adapt_input_conv(n, weights)) for n in (2, 5, 7))
    assert torch.equal(adapt_channels(weights, 3), weights)
    assert adapt_channels(weights.half(), 4).dtype == torch.half


def test_pixels_that_a_network_moves_into_channels_are_adapted_each():
    """As timm's networks with a space-to-depth stem have them: the pixel is the slower index."""
    from timm.models import adapt_input_conv

    weights = torch.randn(8, 12, 3, 3)
    assert torch.equal(adapt_channels(weights, 1), adapt_input_conv(1, weights))
    single = [adapt_channels(weights[:, 3 * k : 3 * k + 3], 4) for k in range(4)]
    assert torch.equal(adapt_channels(weights, 4), torch.cat(single, 1))


def test_filters_of_a_map_stay():
    """The projection of a hybrid's encoder has one filter per channel of the map, which are no colors."""
    encoder = ViT(patch_size=1, in_chans=6, embed_dim=8, depth=1, num_heads=2, img_size=8, global_block_indices=(0,))
    weights: dict[str, Tensor] = {**encoder.state_dict(), "patch_embed.proj.weight": torch.zeros(8, 3, 1, 1)}
    with pytest.raises(ValueError, match=r"proj.weight \(8, 3, 1, 1\) for \(8, 6, 1, 1\)"):
        encoder.load_state_dict(weights)


@pytest.mark.detectron2
@pytest.mark.parametrize("name", ["Swin", "ViT"])
def test_detectron2s_checkpointer_adapts_too(name: str, tmp_path: Any):
    """It removes tensors of another shape before a module sees them."""
    from detectron2.checkpoint import DetectionCheckpointer

    import fpn_plugins.adapters.detectron2  # noqa: F401

    color, net = build(name, 3), build(name, 4)
    torch.save({"model": {f"part.{key}": value for key, value in color.state_dict().items()}}, tmp_path / "w.pth")
    DetectionCheckpointer(nn.ModuleDict({"part": net})).load(str(tmp_path / "w.pth"))
    (key,) = readers(color, net)
    assert torch.equal(net.state_dict()[key], adapt_channels(color.state_dict()[key], 4))


@pytest.mark.mmdet
def test_init_cfg_adapts_too(tmp_path: Any):
    from mmdet.registry import MODELS

    color = build("MViT", 3)
    torch.save({"state_dict": color.state_dict()}, tmp_path / "w.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "w.pth")}
    net = MODELS.build(
        {**BACKBONE_ARGUMENTS["MViT"], "type": "fpn_plugins.MViT", "in_chans": 4, "init_cfg": pretrained}
    )
    net.init_weights()
    (key,) = readers(color, net)
    assert torch.equal(net.state_dict()[key], adapt_channels(color.state_dict()[key], 4))
