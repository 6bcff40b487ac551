"""MSDeformAttnPixelDecoder equals mmdet's, whose layout and the authors' it loads."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from drop_in import loss_of
from precision import assert_same_gradients, assert_same_maps
from random_weights import nothing_trivial
from registered import SIZES, build
from seeds import seed
from state_keys import assert_pinned
from torch import Tensor, nn

from fpn_plugins import FeatureSpec, MSDeformAttnPixelDecoder
from fpn_plugins.ops.deformable_attention import deformable_attention
from fpn_plugins.testing import make_pyramid
from fpn_plugins.weights.maps import pixel_decoder

CHANNELS = (4, 6, 8, 10)
SPECS = [FeatureSpec(channels, 4 << level) for level, channels in enumerate(CHANNELS)]
ENCODER = {
    "num_layers": 2,
    "layer_cfg": {
        "self_attn_cfg": {
            **{"embed_dims": 32, "num_heads": 4, "num_levels": 3, "num_points": 2},
            **{"dropout": 0.0, "batch_first": True},
        },
        "ffn_cfg": {
            **{"embed_dims": 32, "feedforward_channels": 16, "num_fcs": 2, "ffn_drop": 0.0},
            "act_cfg": {"type": "ReLU", "inplace": True},
        },
    },
}
CONFIG = {
    **{"in_channels": list(CHANNELS), "strides": [4, 8, 16, 32], "feat_channels": 32, "out_channels": 16},
    **{"num_outs": 3, "norm_cfg": {"type": "GN", "num_groups": 8}, "encoder": ENCODER},
    "positional_encoding": {"num_feats": 16, "normalize": True},
}


def of_mmdet(scope: str, **changes: Any) -> nn.Module:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import ConfigDict

    import fpn_plugins.adapters.mmdet  # noqa: F401

    register_all_modules()
    config = ConfigDict(copy.deepcopy({**CONFIG, **changes}), type=f"{scope}.MSDeformAttnPixelDecoder")
    return MODELS.build(config)


@pytest.mark.mmdet
@pytest.mark.parametrize("size", SIZES)
def test_equals_mmdets_class(size: tuple[int, int]):
    theirs, ours = nothing_trivial(of_mmdet("mmdet").double()), of_mmdet("fpn_plugins").double()
    ours.load_state_dict(theirs.state_dict())
    found = []
    for neck in (theirs, ours):
        maps = [x.requires_grad_() for x in make_pyramid(SPECS, size, batch_size=2, seed=4, dtype=torch.float64)]
        mask, levels = neck(maps)
        outputs = [mask, *levels]
        loss_of(tuple(outputs)).backward()
        found.append((outputs, [x.grad for x in maps]))
    assert_same_maps(found[1][0], found[0][0])
    assert_same_gradients(found[1][1], found[0][1])
    renamed = pixel_decoder.mmdet().apply({key: p.grad for key, p in theirs.named_parameters()})[0]
    assert_same_gradients({key: p.grad for key, p in ours.named_parameters()}, renamed)


@pytest.mark.mmdet
@pytest.mark.parametrize("levels", [3, 4])
def test_starts_with_mmdets_weights(levels: int):
    encoder = copy.deepcopy(ENCODER)
    encoder["layer_cfg"]["self_attn_cfg"]["num_levels"] = levels
    necks = []
    for scope in ("mmdet", "fpn_plugins"):
        neck = of_mmdet(scope, encoder=encoder)
        seed(3)
        neck.init_weights()
        necks.append(neck)
    ours, loaded = necks[1].state_dict(), copy.deepcopy(necks[1])
    loaded.load_state_dict(necks[0].state_dict())
    for key, value in loaded.state_dict().items():
        if not key.endswith((".linear1.bias", ".linear2.bias")):  # drawn in the constructor by both
            assert torch.equal(value, ours[key]), key


@pytest.mark.mmdet
def test_what_only_mmdets_class_has_is_named():
    for change, message in (
        ({"encoder": {**ENCODER, "num_layers": 2, "post": 1}}, r"encoder has arguments \['post'\]"),
        ({"positional_encoding": {"num_feats": 16, "normalize": False}}, "positional_encoding=.*must be dict"),
        ({"positional_encoding": {"num_feats": 8, "normalize": True}}, "num_feats=16"),
    ):
        with pytest.raises(ValueError, match=message):
            of_mmdet("fpn_plugins", **change)


@pytest.mark.mmdet
def test_the_attention_equals_mmcvs_operator():
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    sizes = [(3, 5), (2, 1)]
    seed(1)
    value, locations = torch.randn(2, 17, 4, 6).double(), (2 * torch.rand(2, 7, 4, 2, 3, 2) - 0.5).double()
    weights = torch.rand(2, 7, 4, 2, 3).double()
    ours = [x.clone().requires_grad_() for x in (value, locations, weights)]
    theirs = [x.clone().requires_grad_() for x in (value, locations, weights)]
    got = deformable_attention(ours[0], sizes, *ours[1:])
    expected = multi_scale_deformable_attn_pytorch(theirs[0], torch.tensor(sizes), *theirs[1:])
    assert_same_maps(got, expected)
    for one, other in ((ours, got), (theirs, expected)):
        other.backward(torch.linspace(-1, 1, other.numel(), dtype=torch.float64).view_as(other))
        assert all(x.grad is not None for x in one)
    assert_same_maps([x.grad for x in ours], [x.grad for x in theirs])


def authors_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return pixel_decoder.mask2former().inverse().apply(tensors)[0]


def test_loads_the_authors_layout():
    """Names from their code: ``adapter_1`` and ``layer_1`` are those of the finest map."""
    neck, again = (build("MSDeformAttnPixelDecoder", num_encoder_levels=2) for _ in range(2))
    theirs = authors_names(nothing_trivial(neck).state_dict())
    expected = {
        "adapter_1.weight",
        "adapter_2.norm.bias",
        "layer_1.weight",
        "input_proj.1.0.bias",
        "input_proj.0.1.weight",
    }
    expected |= {"transformer.level_embed", "transformer.encoder.layers.0.self_attn.value_proj.weight"}
    expected |= {"transformer.encoder.layers.0.norm2.bias", "mask_features.weight"}
    assert expected <= set(theirs)
    again.load_state_dict(theirs)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in neck.state_dict().items())


def test_keys_are_pinned():
    keys = {"level_embed", "mask_conv.weight", "mask_conv.bias"}
    normed = [*(f"input_convs.{i}" for i in range(3)), "lateral_convs.0", "output_convs.0"]
    keys |= {f"{name}.{part}" for name in normed for part in ("conv.weight", "norm.weight", "norm.bias")}
    keys |= {f"input_convs.{i}.conv.bias" for i in range(3)}
    attention = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    layers = [*(f"self_attn.{name}" for name in attention), "linear1", "linear2", "norm1", "norm2"]
    keys |= {f"layers.0.{name}.{part}" for name in layers for part in ("weight", "bias")}
    assert_pinned("MSDeformAttnPixelDecoder", keys)


def test_specs_and_levels():
    neck = MSDeformAttnPixelDecoder([8, 8, 8, 8], 32, 16, num_outs=4, num_layers=1, num_heads=4, ffn_channels=8)
    specs = [FeatureSpec(8, 4 << level) for level in range(4)]
    outputs = neck(make_pyramid(specs, (64, 96)))
    assert [(spec.channels, spec.stride) for spec in neck.out_specs(specs)] == [
        *((16, 4), (32, 4), (32, 8), (32, 16), (32, 32))
    ]
    assert [tuple(x.shape[1:]) for x in outputs][:2] == [(16, 16, 24), (32, 16, 24)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 30}, "out_channels=30 must be a multiple of 4"),
        ({"num_heads": 5}, "num_heads=5 must divide the 32 channels"),
        ({"num_outs": 5}, "num_outs=5"),
        ({"num_encoder_levels": 0}, "num_encoder_levels=0"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        MSDeformAttnPixelDecoder(**{"in_channels": CHANNELS, "out_channels": 32, "norm": None, **arguments})
